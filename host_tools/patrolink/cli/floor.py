"""Watch the floors of a running hub: which group is taken, by whom, since when, for how long yet, and who waits.

On a terminal a live table; otherwise a line for every change, or with --json the group as the hub tells it. The token
is taken from PATROLINK_HUB_TOKEN. Watching is not listening: no group counts us among its members.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from patrolink.cli._arguments import non_negative_seconds, positive_count
from patrolink.core import signals
from patrolink.core.signals import StopSignal

if TYPE_CHECKING:
    from patrolink.hub.dispatch.client import ConsoleClient

HELP = "watch who has the floor of which group"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="the hub's console")
    parser.add_argument(
        "--for", dest="seconds", type=non_negative_seconds, metavar="SECONDS", help="stop after this time"
    )
    parser.add_argument("--count", type=positive_count, metavar="N", help="stop after N changes")


def run(args: argparse.Namespace) -> int:
    changes: list[int] = []
    with contextlib.suppress(StopSignal):
        signals.run(_run(args, changes))
    print(f"{len(changes)} changes", file=sys.stderr)
    return 0


async def _run(args: argparse.Namespace, changes: list[int]) -> None:
    from patrolink.hub.dispatch.client import connect

    async with connect(args.hub) as client:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_watch(client, args, changes), args.seconds)


async def _watch(client: "ConsoleClient", args: argparse.Namespace, changes: list[int]) -> None:
    from patrolink.audio.voice_packet import VoicePacket
    from patrolink.report.floor_table import Floors

    with contextlib.ExitStack() as stack:
        live = not args.json and sys.stdout.isatty()
        floors = Floors(client.hello["site"])
        if live:
            stack.enter_context(floors)
        known: dict[int, tuple[Any, ...]] = {}
        for group in client.hello["groups"]:
            floors.take(group)
            known[group["group"]] = _facts(group)
            if not live and group["state"] != "idle":
                _tell(group, args.json)
        while args.count is None or len(changes) < args.count:
            told = await client.next_message()
            if isinstance(told, VoicePacket):
                continue
            if told["type"] == "gone":
                floors.drop(told["group"])
            elif told["type"] in ("floor", "group"):
                floors.take(told)
                if known.get(told["group"]) != _facts(told):
                    known[told["group"]] = _facts(told)
                    changes.append(told["group"])
                    if not live:
                        _tell(told, args.json)


def _facts(group: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a change: members that come and go, and time that passes, make none."""
    return tuple(str(group[name]) for name in ("name", "state", "ssrc", "talker", "emergency", "broadcast", "queue"))


def _tell(group: dict[str, Any], as_json: bool) -> None:
    from patrolink.report.floor_table import plain, state

    if as_json:
        print(json.dumps(group), flush=True)
        return
    waiting = f", waiting: {', '.join(group['queue'])}" if group["queue"] else ""
    print(plain(f"{group['name']}: {state(group)} {group['talker'] or ''}".rstrip() + waiting), flush=True)
