"""Channel inside one process and event loop, for the simulation and for tests."""

import asyncio

from patrolink.hub.channel.ends import Handler
from patrolink.hub.channel.messages import Message


class MemoryChannel:
    """A pair of ends. They are connected while both run.

    Attributes:
        ends: The end of the voice, and that of the service.
    """

    def __init__(self) -> None:
        self.ends = MemoryEnd(self, 0), MemoryEnd(self, 1)
        self._handlers: list[Handler | None] = [None, None]
        self._connection = 0

    def attach(self, side: int, handler: Handler) -> None:
        """Let an end run."""
        self._handlers[side] = handler
        for each in self._handlers if all(self._handlers) else ():
            assert each is not None
            each.connected()

    def detach(self, side: int) -> None:
        """Stop an end. Messages under way are lost."""
        self._connection += 1
        handlers, self._handlers[side] = list(self._handlers), None
        for each in handlers if all(handlers) else ():
            assert each is not None
            each.disconnected()

    def send(self, side: int, message: Message) -> None:
        """Deliver a message of one end to the other one, in the next turn of the loop."""
        if all(self._handlers):
            asyncio.get_running_loop().call_soon(self._deliver, 1 - side, self._connection, message)

    def _deliver(self, side: int, connection: int, message: Message) -> None:
        handler = self._handlers[side]
        if handler is not None and connection == self._connection:
            handler.received(message)


class MemoryEnd:
    """One end. A Channel."""

    def __init__(self, channel: MemoryChannel, side: int) -> None:
        self._channel, self._side = channel, side

    def send(self, message: Message) -> None:
        """Send a message; see Channel."""
        self._channel.send(self._side, message)

    async def drain(self) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    async def run(self, handler: Handler) -> None:
        """Hold the channel until cancelled; see Channel."""
        self._channel.attach(self._side, handler)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._channel.detach(self._side)
