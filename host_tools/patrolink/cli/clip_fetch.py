"""Get clips from a hub into a folder, and verify them. What is there already stays; what broke off is gone on with.

HUB is its console (http://127.0.0.1:8080, https://host:port); the token is taken from PATROLINK_HUB_TOKEN. The devices'
public keys come along once (signers.toml): a key that is there already stays. Exit code 1 tells of a clip that is
tampered with or unverifiable.
"""

import argparse
import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli import clip, clip_verify
from patrolink.cli.clip_list import line
from patrolink.core.errors import UserError

if TYPE_CHECKING:
    from patrolink.evidence.source import Listed
    from patrolink.evidence.verify import Verdict

HELP = "get clips from a hub, and verify them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hub", metavar="HUB", help="the hub's console")
    parser.add_argument("--device", metavar="NAME", help="only this device's")
    parser.add_argument("--clip", type=_number, metavar="N", help="only the clip of this number")
    parser.add_argument("--out", default="clips", metavar="DIR", help="where they go (default: clips)")
    clip.add_evidence(parser)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a clip")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from patrolink.evidence import source, verify

    key = clip.evidence(args)
    got = asyncio.run(_fetch(args))
    clips, known = Path(args.out), verify.signers(Path(args.out) / source.SIGNERS)
    found: list[Verdict] = []
    for device in sorted({one.device for one in got}):
        numbers = {f"{one.number:06d}" for one in got if one.device == device}
        found += verify.device(clips / device, known, key, numbers).clips
    return clip_verify.tell(found, args.json)


async def _fetch(args: argparse.Namespace) -> "list[Listed]":
    from patrolink.evidence import fetch
    from patrolink.evidence.findings import plain
    from patrolink.hub.dispatch import client

    async with client.http_session(args.hub) as hub:
        found = [
            one
            for one in await fetch.listing(hub)
            if args.device in (None, one.device) and args.clip in (None, one.number)
        ]
        if not found:
            raise UserError("the hub has no such clip; `patrolink clip list` tells which it has")
        for device in await fetch.signers(hub, Path(args.out)):
            print(
                f"warning: the hub tells other keys of {plain(device)} than {args.out}/signers.toml; "
                "if the device has a new one, take its line out of there",
                file=sys.stderr,
            )
        whole = [one for one in found if one.manifest in one.files]
        for one in found:
            if one not in whole:
                print(f"{line(one)}: left, its manifest is not at the hub", file=sys.stderr)
        with _progress(sum(one.size for one in whole)) as told:
            for one in whole:
                await fetch.clip(hub, one, Path(args.out), told)
        return whole


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show how far it is, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda n: progress.advance(task, n)
