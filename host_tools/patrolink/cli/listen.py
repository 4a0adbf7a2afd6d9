"""Listen to groups of a running hub, as a dispatcher: on the loudspeaker, or into a WAV file with --output.

GROUP is a number or name; none means all but private ones. The token is taken from PATROLINK_HUB_TOKEN. Each burst is
told when it is over: who, how long, and how much of it was lost. Packets that were lost are silence in the file, where
bursts follow one another. Ctrl-C, --for or --count ends it; exit code 4 when nothing was heard within --for.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli._arguments import non_negative_seconds, positive_count
from patrolink.core import signals
from patrolink.core.signals import StopSignal

if TYPE_CHECKING:
    from patrolink.audio.burst_assembler import TalkBurst
    from patrolink.audio.playout import PlayoutMixer
    from patrolink.audio.sound_file import BurstWriter
    from patrolink.audio.voice_packet import VoicePacket
    from patrolink.hub.dispatch.client import ConsoleClient

HELP = "listen to groups on the loudspeaker, or into a file"
_LATE_S = 0.4  # voice that was under way when the floor was given back


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="number or name of a group (default: all)")
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="the hub's console")
    parser.add_argument("--output", metavar="FILE", help="WAV file to write instead of playing")
    parser.add_argument(
        "--for", dest="seconds", type=non_negative_seconds, metavar="SECONDS", help="stop after this time"
    )
    parser.add_argument("--count", type=positive_count, metavar="N", help="stop after N bursts")


def run(args: argparse.Namespace) -> int:
    from patrolink.audio.playout import PlayoutMixer
    from patrolink.audio.sound_device import open_loudspeaker
    from patrolink.audio.sound_file import BurstWriter

    with contextlib.ExitStack() as stack:
        wav = speaker = None
        if args.output:
            wav = BurstWriter(Path(args.output))
            stack.callback(wav.close)
        else:
            speaker = PlayoutMixer()
            stack.callback(open_loudspeaker(speaker).close)
        listener = Listener(wav, speaker, args.count, args.json)
        with contextlib.suppress(StopSignal, asyncio.TimeoutError):
            signals.run(asyncio.wait_for(listener.run(args.hub, args.groups), args.seconds))
        listener.finish()
        print(f"{listener.bursts} bursts received", file=sys.stderr)
        return 4 if args.seconds is not None and not listener.bursts else 0


class Listener:
    """
    bursts  that were heard
    """

    def __init__(
        self, wav: "BurstWriter | None", speaker: "PlayoutMixer | None", most: int | None, as_json: bool
    ) -> None:
        from patrolink.audio.burst_assembler import BurstAssembler

        self.bursts = 0
        self._wav, self._speaker, self._most, self._json = wav, speaker, most, as_json
        self._assembler = BurstAssembler()
        self._names: dict[int, str] = {}
        self._ending: dict[int, asyncio.TimerHandle] = {}
        self._enough = asyncio.Event()

    async def run(self, hub: str, groups: list[str]) -> None:
        """Listen until enough bursts have come."""
        from patrolink.hub.dispatch.client import connect

        async with connect(hub) as client:
            every = client.hello["groups"]
            chosen = [client.find_group(name) for name in groups] or [one for one in every if one["kind"] != "private"]
            for group in chosen:
                self._know(group)
                await client.request("listen", group=group["group"])
            print(f"listening to {', '.join(self._names.values())}", file=sys.stderr, flush=True)
            taking = asyncio.ensure_future(self._take(client))
            enough = asyncio.ensure_future(self._enough.wait())
            try:
                await asyncio.wait((taking, enough), return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    taking.result()
            finally:
                taking.cancel()
                enough.cancel()

    def finish(self) -> None:
        """Tell what was on when it ended."""
        for burst in self._assembler.end_all():
            self._heard(burst)

    async def _take(self, client: "ConsoleClient") -> None:
        from patrolink.audio.voice_packet import VoicePacket

        while True:
            it = await client.next_message()
            if isinstance(it, VoicePacket):
                self._voice(it)
            elif it["type"] == "floor" and it["group"] in self._names:
                self._floor(it)

    def _voice(self, packet: "VoicePacket") -> None:
        if self._speaker is not None:
            self._speaker.push(packet)
        over = self._assembler.push(packet)
        if over is not None:
            self._heard(over)

    def _know(self, group: dict[str, Any]) -> None:
        self._names[group["group"]] = group["name"]
        if group["talker"]:
            self._assembler.set_talker(group["group"], group["talker"])

    def _floor(self, group: dict[str, Any]) -> None:
        number = group["group"]
        self._know(group)
        ending = self._ending.pop(number, None)
        if ending is not None:
            ending.cancel()
        if group["state"] == "idle":
            self._ending[number] = asyncio.get_running_loop().call_later(_LATE_S, self._end, number)

    def _end(self, group: int) -> None:
        burst = self._assembler.end(group)
        if burst is not None:
            self._heard(burst)

    def _heard(self, burst: "TalkBurst") -> None:
        self.bursts += 1
        if self._wav is not None:
            self._wav.write(burst.samples())
        facts = {"group_name": self._names[burst.group], **burst.summary()}
        if self._json:
            print(json.dumps(facts), flush=True)
        else:
            lost = f", {facts['lost_ms']} ms lost" if facts["lost_ms"] else ""
            print(f"{facts['group_name']}: {burst.talker}, {facts['duration_ms'] / 1000:.1f} s{lost}", flush=True)
        if self._most is not None and self.bursts >= self._most:
            self._enough.set()
