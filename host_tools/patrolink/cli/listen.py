"""Listen to groups of a running hub as a dispatcher: on the loudspeaker, or into a WAV file with --output.

GROUP is a number or name; without one, all groups but private ones. The token is read from PATROLINK_HUB_TOKEN. Each
burst is printed at its end: talker, duration and loss. Lost packets are silence in the file, where bursts follow one
another. Ctrl-C, --for or --count ends it. Exit code 4 if nothing was received within --for.
"""

import argparse
import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli._arguments import non_negative_seconds, positive_count
from patrolink.core import notes, signals
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.signals import StopSignal
from patrolink.core.text import plural, printable
from patrolink.core.timeouts import wait_for

if TYPE_CHECKING:
    from patrolink.audio.burst_assembler import TalkBurst
    from patrolink.audio.playout import PlayoutMixer
    from patrolink.audio.sound_file import BurstWriter
    from patrolink.audio.voice_packet import VoicePacket
    from patrolink.hub.dispatch.client import ConsoleClient

EXAMPLES = (
    "patrolink listen call",
    "patrolink listen call --output voice.wav --for 60",
)
_LATE_S = 0.4  # packets on their way when the floor becomes idle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="number or name of a group (default: all)")
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="address of the hub's console")
    parser.add_argument("--output", metavar="FILE", help="WAV file to write instead of playing")
    parser.add_argument(
        "--for", dest="seconds", type=non_negative_seconds, metavar="SECONDS", help="stop after this time"
    )
    parser.add_argument("--count", type=positive_count, metavar="N", help="stop after N bursts")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink.audio.playout import PlayoutMixer
    from patrolink.audio.sound_device import open_loudspeaker
    from patrolink.audio.sound_file import BurstWriter

    with contextlib.ExitStack() as stack:
        writer = mixer = None
        if args.output:
            writer = BurstWriter(Path(args.output))
            stack.callback(writer.close)
        else:
            mixer = PlayoutMixer()
            stack.callback(open_loudspeaker(mixer).close)
        listener = Listener(writer, mixer, args.count, args.json)
        with contextlib.suppress(StopSignal, asyncio.TimeoutError):
            signals.run(wait_for(listener.run(args.hub, args.groups), args.seconds))
        listener.finish()
        if args.json:
            print_summary({"bursts": listener.bursts})
        else:
            notes.note(f"{plural(listener.bursts, 'burst')} received")
        return 4 if args.seconds is not None and not listener.bursts else 0


class Listener:
    """Receives bursts, writes or plays them, and prints them.

    Args:
        writer: Where complete bursts are written, or None.
        mixer: Where packets are played, or None.
        max_bursts: Number of bursts to receive, or None.
        as_json: Print bursts as JSON.

    Attributes:
        bursts: Number of bursts received.
    """

    def __init__(
        self, writer: "BurstWriter | None", mixer: "PlayoutMixer | None", max_bursts: int | None, as_json: bool
    ) -> None:
        from patrolink.audio.burst_assembler import BurstAssembler

        self.bursts = 0
        self._writer, self._mixer, self._max_bursts, self._json = writer, mixer, max_bursts, as_json
        self._assembler = BurstAssembler()
        self._names: dict[int, str] = {}
        self._end_timers: dict[int, asyncio.TimerHandle] = {}
        self._complete = asyncio.Event()

    async def run(self, hub: str, groups: list[str]) -> None:
        """Listen until enough bursts were received.

        Args:
            hub: Address of the hub's console.
            groups: Numbers or names; empty means all but private ones.
        """
        from patrolink.hub.dispatch.client import connect, wait_first

        async with connect(hub) as client:
            shared = [group for group in client.hello["groups"] if group["kind"] != "private"]
            for group in [client.find_group(name) for name in groups] or shared:
                self._update_group(group)
                await client.request("listen", group=group["group"])
            notes.note(f"listening to {', '.join(self._names.values())}")
            await wait_first(self._receive(client), self._complete.wait())

    def finish(self) -> None:
        """Print the bursts that have not ended."""
        for burst in self._assembler.end_all():
            self._on_burst(burst)

    async def _receive(self, client: "ConsoleClient") -> None:
        while True:
            message = await client.next_message()
            if not isinstance(message, dict):
                self._on_packet(message)
            elif message["type"] == "floor" and message["group"] in self._names:
                self._on_floor(message)

    def _on_packet(self, packet: "VoicePacket") -> None:
        if self._mixer is not None:
            self._mixer.push(packet)
        burst = self._assembler.push(packet)
        if burst is not None:
            self._on_burst(burst)

    def _update_group(self, group: dict[str, Any]) -> None:
        self._names[group["group"]] = group["name"]
        if group["talker"]:
            self._assembler.set_talker(group["group"], group["talker"])

    def _on_floor(self, group: dict[str, Any]) -> None:
        number = group["group"]
        self._update_group(group)
        timer = self._end_timers.pop(number, None)
        if timer is not None:
            timer.cancel()
        if group["state"] == "idle":
            self._end_timers[number] = asyncio.get_running_loop().call_later(_LATE_S, self._end_burst, number)

    def _end_burst(self, group: int) -> None:
        burst = self._assembler.end(group)
        if burst is not None:
            self._on_burst(burst)

    def _on_burst(self, burst: "TalkBurst") -> None:
        self.bursts += 1
        if self._writer is not None:
            self._writer.write(burst.samples())
        summary = {"group": burst.group, "group_name": self._names[burst.group], **burst.summary()}
        if self._json:
            print_record("burst", summary)
        else:
            lost = f", {summary['lost_s'] * 1000:.0f} ms lost" if summary["lost_s"] else ""
            line = f"{summary['group_name']}: {burst.talker}, {summary['duration_s']:.1f} s{lost}"
            print(printable(line), flush=True)
        if self._max_bursts is not None and self.bursts >= self._max_bursts:
            self._complete.set()
