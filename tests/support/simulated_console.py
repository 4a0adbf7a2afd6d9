"""A dispatcher's console at a simulated site, without HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

from patrolink.hub.dispatch.messages import LiveFrame, VoiceFrame

from tests.support.simulated_site import SimulatedSite

_PACKET_BYTES = 160  # 20 ms


class SimulatedConsole:
    """Reads everything that the hub sends to a dispatcher.

    Args:
        site: The site; it has the dispatcher.
        name: Name of the dispatcher.

    Attributes:
        session: The dispatcher's session.
        messages: Messages received, with `type`.
        voice: Voice received.
        pictures: Pictures of live views received.
    """

    def __init__(self, site: SimulatedSite, name: str = "duty") -> None:
        self._site, self.session = site, site.open_console(name)
        self.messages: list[dict[str, Any]] = []
        self.voice: list[VoiceFrame] = []
        self.pictures: list[bytes] = []
        site.hub.create_task(self._read())

    async def _read(self) -> None:
        while True:
            message = await self.session.queue.next()
            if isinstance(message, LiveFrame):
                self.pictures.append(message.data)
            elif isinstance(message, VoiceFrame):
                self.voice.append(message)
            else:
                self.messages.append(message)

    def request(self, coroutine: Any) -> Any:
        """Run a coroutine of the session to its end and return its result."""
        task = self._site.hub.create_task(coroutine)
        self._site.run_until(task.done)
        return task.result()

    def talk(self, group: int, alaw: bytes) -> None:
        """Speak in a group whose floor is granted, in packets of 20 ms, and release the floor."""
        self.request(self._talk(group, alaw))

    async def _talk(self, group: int, alaw: bytes) -> None:
        for at in range(0, len(alaw), _PACKET_BYTES):
            assert self.session.send_audio(group, alaw[at : at + _PACKET_BYTES]), "the floor was lost"
            await asyncio.sleep(_PACKET_BYTES / 8000)
        self.session.release_floor(group)

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], failure: Any = "") -> dict[str, Any]:
        """Return the first message that fulfils the condition, and forget it and those before it."""

        def index() -> int:
            return next((i + 1 for i, message in enumerate(self.messages) if condition(message)), 0)

        n = self._site.run_until(index, failure or (lambda: str(self.messages)))
        message = self.messages[n - 1]
        del self.messages[:n]
        return message

    def answer(self, command: int) -> dict[str, Any]:
        """Return the device's answer to a command."""
        return self.wait_for(lambda row: row["type"] == "answer" and row["command_id"] == command)

    def wait_for_pictures(self, n: int, failure: Any = "") -> None:
        """Wait until n more pictures were received."""
        total = len(self.pictures) + n
        self._site.run_until(lambda: len(self.pictures) >= total, failure)
