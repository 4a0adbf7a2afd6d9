"""Talk in a group of a running hub, as a dispatcher: a sound file, or the microphone until Ctrl-C.

GROUP is its number or name. The token is taken from PATROLINK_HUB_TOKEN. Standard error tells what becomes of the wish
to speak (granted, queued with its place, denied, stopped). Exit code 1 when it was denied or stopped, 4 when nobody
gave the floor within --wait.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli._arguments import non_negative_seconds
from patrolink.core import signals
from patrolink.core.signals import StopSignal

if TYPE_CHECKING:
    from patrolink.hub.dispatch.client import ConsoleClient

HELP = "talk in a group: a sound file or the microphone"
_TAIL_S = 0.2  # what was said last is to be out before the floor is given back


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="number or name of a group")
    parser.add_argument("--file", metavar="FILE", help="sound file to say (default: the microphone)")
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="the hub's console")
    parser.add_argument("--emergency", action="store_true", help="an emergency call")
    parser.add_argument("--broadcast", action="store_true", help="a broadcast: nobody may answer")
    parser.add_argument(
        "--priority", type=int, metavar="N", help="0 to 255, at most the dispatcher's own (the default)"
    )
    parser.add_argument(
        "--wait", type=non_negative_seconds, default=30.0, metavar="SECONDS", help="for the floor, then give up"
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=non_negative_seconds,
        metavar="SECONDS",
        help="with the microphone: stop after this time",
    )


def run(args: argparse.Namespace) -> int:
    from patrolink.audio.sound_file import read_alaw

    # A file that cannot be read is to be told before anybody is disturbed.
    alaw = read_alaw(Path(args.file)) if args.file else None
    outcome = asyncio.run(_talk(args, alaw))
    stopped: StopSignal | None = outcome.pop("stopped")
    if args.json:
        print(json.dumps(outcome))
    else:
        print(" ".join(f"{name}={value}" for name, value in outcome.items() if value not in (None, "")))
    if stopped is not None and outcome["result"] == "cancelled":
        return stopped.exit_code
    return {"said": 0, "timeout": 4}.get(outcome["result"], 1)


async def _talk(args: argparse.Namespace, alaw: bytes | None) -> dict[str, Any]:
    from patrolink.hub.dispatch.client import connect

    with signals.stop_requested() as stop:
        async with connect(args.hub) as client:
            group: int = client.find_group(args.group)["group"]
            async with _frames(alaw, args.seconds) as frames:
                outcome = await Talk(client, group, args.json).run(args, frames, stop)
        return {**outcome, "stopped": stop.result() if stop.done() else None}


@contextlib.asynccontextmanager
async def _frames(alaw: bytes | None, most_s: float | None) -> Any:
    """Yield a queue of frames: of a file, all; of the microphone, as they are said. None ends it."""
    from patrolink.audio.sound_device import open_microphone
    from patrolink.audio.voice_packet import FRAME_SAMPLES

    frames: asyncio.Queue[bytes | None] = asyncio.Queue()
    if alaw is not None:
        for at in range(0, len(alaw), FRAME_SAMPLES):
            frames.put_nowait(alaw[at : at + FRAME_SAMPLES])
        frames.put_nowait(None)
        yield frames
        return
    loop = asyncio.get_running_loop()

    def take(frame: bytes) -> None:
        loop.call_soon_threadsafe(frames.put_nowait, frame)

    stream = open_microphone(take)
    if most_s is not None:
        loop.call_later(most_s, frames.put_nowait, None)
    try:
        yield frames
    finally:
        stream.close()


class Talk:
    """One wish to speak, from the press of the key to its end."""

    def __init__(self, client: "ConsoleClient", group: int, quiet: bool) -> None:
        self._client, self._group, self._quiet = client, group, quiet
        self._granted: asyncio.Event = asyncio.Event()
        self._over: asyncio.Event = asyncio.Event()
        self._outcome: dict[str, Any] = {"group": group, "result": "", "granted_ms": None, "said_ms": 0, "text": ""}

    async def run(
        self,
        args: argparse.Namespace,
        frames: "asyncio.Queue[bytes | None]",
        stop: "asyncio.Future[StopSignal]",
    ) -> dict[str, Any]:
        """Ask for the floor, say all, and give it back; return what became of it."""
        self._pressed = time.monotonic()
        hearing = asyncio.ensure_future(self._hear())
        wish = {"emergency": args.emergency, "broadcast": args.broadcast, "priority": args.priority}
        try:
            await self._client.request("press", group=self._group, **wish)
            first = await _first(args.wait, self._granted.wait(), self._over.wait(), hearing, stop)
            if not first:
                self._outcome.update(result="timeout", text=f"the floor was not given within {args.wait:g} s")
            elif self._granted.is_set():
                await _first(None, self._say(frames), self._over.wait(), hearing, stop)
            if stop.done() and not self._outcome["result"] and (args.file or not self._granted.is_set()):
                self._outcome["result"] = "cancelled"
            if hearing.done():
                hearing.result()
            self._outcome["result"] = self._outcome["result"] or "said"
            await self._client.request("release", group=self._group)
        finally:
            hearing.cancel()
        return self._outcome

    async def _say(self, frames: "asyncio.Queue[bytes | None]") -> None:
        """Send frames at the pace of speech."""
        due = time.monotonic()
        while (frame := await frames.get()) is not None:
            await self._client.send_voice(self._group, frame)
            self._outcome["said_ms"] += len(frame) // 8
            due += len(frame) / 8000
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.sleep(_TAIL_S)

    async def _hear(self) -> None:
        from patrolink.audio.voice_packet import VoicePacket

        while True:
            told = await self._client.next_message()
            if isinstance(told, VoicePacket) or told.get("group") != self._group:
                continue
            if told["type"] == "granted":
                if self._outcome["granted_ms"] is None:
                    self._outcome["granted_ms"] = round((time.monotonic() - self._pressed) * 1000)
                self._tell(f"granted, for {told['duration_ms'] // 1000} s at most")
                self._granted.set()
            elif told["type"] == "queued":
                self._tell(f"queued, place {told['position']}")
            elif told["type"] in ("denied", "revoked"):
                what = "denied" if told["type"] == "denied" else "stopped"
                self._outcome.update(result=what, text=told["text"])
                self._tell(f"{what}: {told['text'] or 'the hub gives no reason'}")
                self._over.set()

    def _tell(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


async def _first(most_s: float | None, *jobs: Any) -> bool:
    """Run jobs until one is done, and end those that were begun here; False when the time is over before."""
    tasks = [job if isinstance(job, asyncio.Future) else asyncio.ensure_future(job) for job in jobs]
    done, _ = await asyncio.wait(tasks, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
    for task, job in zip(tasks, jobs, strict=True):
        if task is not job:
            task.cancel()
    for task in done:
        task.result()
    return bool(done)
