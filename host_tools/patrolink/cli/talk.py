"""Talk in a group of a running hub as a dispatcher: send a sound file, or the microphone until Ctrl-C.

GROUP is the number or name of the group. The token is read from PATROLINK_HUB_TOKEN. Standard error shows what happens
to the request of the floor: granted, queued with its position, denied, or stopped. Exit code 1 if it was denied or
stopped, 4 if the floor was not granted within --wait.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from patrolink.cli._arguments import non_negative_seconds
from patrolink.core import notes, signals
from patrolink.core.json_lines import print_summary
from patrolink.core.signals import StopSignal
from patrolink.core.text import printable

if TYPE_CHECKING:
    from patrolink.hub.dispatch.client import ConsoleClient

EXAMPLES = (
    "patrolink talk call",
    "patrolink talk call --file message.wav --emergency",
)
_TAIL_S = 0.2  # the last word is played before the floor is released
Frames = asyncio.Queue[bytes | None]  # A-law frames; None ends the transmission


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("group", metavar="GROUP", help="number or name of a group")
    parser.add_argument("--file", metavar="FILE", help="sound file to send (default: the microphone)")
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="address of the hub's console")
    parser.add_argument("--emergency", action="store_true", help="start an emergency call")
    parser.add_argument("--broadcast", action="store_true", help="start a broadcast: nobody else can request the floor")
    parser.add_argument(
        "--priority", type=int, metavar="N", help="0 to 255, at most the dispatcher's own (the default)"
    )
    parser.add_argument(
        "--wait", type=non_negative_seconds, default=30.0, metavar="SECONDS", help="timeout for the floor (default: 30)"
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=non_negative_seconds,
        metavar="SECONDS",
        help="with the microphone: stop after this time",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink.audio.sound_file import read_alaw

    alaw = read_alaw(Path(args.file)) if args.file else None  # an unreadable file is reported before any request
    outcome, stopped = asyncio.run(_talk(args, alaw))
    if args.json:
        print_summary(outcome.summary())
    else:
        fields = (f"{name}={value}" for name, value in outcome.summary().items() if value not in (None, ""))
        print(printable(" ".join(fields)))
    if stopped is not None and outcome.result == "cancelled":
        return stopped.exit_code
    return {"sent": 0, "timeout": 4}.get(outcome.result, 1)


@dataclass
class Outcome:
    """Result of a transmission, as printed.

    Attributes:
        group: Number of the group.
        result: sent, denied, stopped, timeout or cancelled; empty while it is active.
        granted_ms: Time from the request to the first grant.
        sent_ms: Duration of the voice that was sent.
        text: Reason of a denial or revocation.
    """

    group: int
    result: str = ""
    granted_ms: int | None = None
    sent_ms: int = 0
    text: str = ""

    def summary(self) -> dict[str, Any]:
        """Return the JSON-ready outcome."""
        return {
            "group": self.group,
            "result": self.result,
            "granted_ms": self.granted_ms,
            "duration_s": self.sent_ms / 1000,
            "text": self.text,
        }


class FloorRequest(NamedTuple):
    """Parameters of the request of the floor."""

    emergency: bool
    broadcast: bool
    priority: int | None
    timeout_s: float


async def _talk(args: argparse.Namespace, alaw: bytes | None) -> tuple[Outcome, StopSignal | None]:
    from patrolink.hub.dispatch.client import connect

    request = FloorRequest(args.emergency, args.broadcast, args.priority, args.wait)
    with signals.stop_requested() as stop:
        async with connect(args.hub) as client:
            group: int = client.find_group(args.group)["group"]
            async with _frames(alaw, args.seconds) as frames:
                outcome = await Transmission(client, group).run(request, frames, stop)
        if stop.done() and not outcome.result:
            # A file is cut short; with the microphone, the signal is the usual end.
            outcome.result = "sent" if alaw is None and outcome.granted_ms is not None else "cancelled"
        return outcome, stop.result() if stop.done() else None


@contextlib.asynccontextmanager
async def _frames(alaw: bytes | None, duration_s: float | None) -> AsyncIterator[Frames]:
    """Yield the frames of a file, or those of the microphone as they are captured."""
    from patrolink.audio.sound_device import open_microphone
    from patrolink.audio.voice_packet import FRAME_SAMPLES

    frames: Frames = asyncio.Queue()
    if alaw is not None:
        for start in range(0, len(alaw), FRAME_SAMPLES):
            frames.put_nowait(alaw[start : start + FRAME_SAMPLES])
        frames.put_nowait(None)
        yield frames
        return
    loop = asyncio.get_running_loop()

    def on_frame(frame: bytes) -> None:
        loop.call_soon_threadsafe(frames.put_nowait, frame)

    stream = open_microphone(on_frame)
    if duration_s is not None:
        loop.call_later(duration_s, frames.put_nowait, None)
    try:
        yield frames
    finally:
        stream.close()


class Transmission:
    """One transmission, from the request of the floor to its release.

    Args:
        client: The connection to the hub.
        group: Number of the group.
    """

    def __init__(self, client: "ConsoleClient", group: int) -> None:
        self._client, self._group = client, group
        self._granted: asyncio.Event = asyncio.Event()
        self._ended: asyncio.Event = asyncio.Event()
        self._outcome = Outcome(group)
        self._requested_s = 0.0

    async def run(self, request: FloorRequest, frames: Frames, stop: "asyncio.Future[StopSignal]") -> Outcome:
        """Request the floor, send all frames, and release the floor.

        Args:
            request: Parameters of the request.
            frames: What to send.
            stop: Done when the user stops the transmission.

        Returns:
            The outcome. Its result is empty if the transmission was stopped by `stop`.
        """
        from patrolink.hub.dispatch.client import wait_first  # aiohttp is heavy

        self._requested_s = asyncio.get_running_loop().time()
        receiver = asyncio.ensure_future(self._receive())
        options = {"emergency": request.emergency, "broadcast": request.broadcast, "priority": request.priority}
        try:
            await self._client.request("press", group=self._group, **options)
            if not await wait_first(
                self._granted.wait(), self._ended.wait(), receiver, stop, timeout_s=request.timeout_s
            ):
                text = f"the floor was not granted within {request.timeout_s:g} s"
                self._outcome.result, self._outcome.text = "timeout", text
            elif self._granted.is_set():
                await wait_first(self._send(frames), self._ended.wait(), receiver, stop)
            if receiver.done():
                receiver.result()
            if not self._outcome.result and not stop.done():
                self._outcome.result = "sent"
            await self._client.request("release", group=self._group)
        finally:
            receiver.cancel()
        return self._outcome

    async def _send(self, frames: Frames) -> None:
        """Send frames in real time."""
        from patrolink.audio.voice_packet import SAMPLE_RATE_HZ

        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while (frame := await frames.get()) is not None:
            await self._client.send_voice(self._group, frame)
            self._outcome.sent_ms += len(frame) * 1000 // SAMPLE_RATE_HZ
            due_s += len(frame) / SAMPLE_RATE_HZ
            await asyncio.sleep(max(0.0, due_s - loop.time()))
        await asyncio.sleep(_TAIL_S)

    async def _receive(self) -> None:
        """Handle the floor messages of the group."""
        while True:
            message = await self._client.next_message()
            if isinstance(message, dict) and message.get("group") == self._group:
                self._on_message(message)

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "granted":
            if self._outcome.granted_ms is None:
                self._outcome.granted_ms = round((asyncio.get_running_loop().time() - self._requested_s) * 1000)
            notes.note(f"granted for up to {message['duration_ms'] // 1000} s")
            self._granted.set()
        elif message["type"] == "queued":
            notes.note(f"queued at position {message['position']}")
        elif message["type"] in ("denied", "revoked"):
            self._outcome.result = "denied" if message["type"] == "denied" else "stopped"
            self._outcome.text = message["text"]
            notes.note(f"{self._outcome.result}: {message['text'] or 'no reason given'}")
            self._ended.set()
