"""List clips: of a hub, or of a folder. Nothing is verified here: what a hub says of a clip is its word.

PLACE is a hub's console (http://127.0.0.1:8080, https://host:port; the token is taken from PATROLINK_HUB_TOKEN), or a
folder of a clip, of a device, or of a site's clips.
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patrolink.evidence.source import Listed

HELP = "list the clips of a hub or of a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="PLACE", help="a hub's console, or a folder of clips")


def run(args: argparse.Namespace) -> int:
    from patrolink.evidence import source

    at_hub = args.place.startswith(("http://", "https://"))
    found = asyncio.run(_listing(args.place)) if at_hub else source.Place(Path(args.place)).listing()
    if args.json:
        print(json.dumps([one.facts() for one in found]))
    for one in found if not args.json else ():
        print(line(one))
    return 0


async def _listing(url: str) -> "list[Listed]":
    from patrolink.evidence import fetch
    from patrolink.hub.dispatch import client

    async with client.http_session(url) as hub:
        return await fetch.listing(hub)


def line(one: "Listed") -> str:
    """Return a clip in words."""
    from patrolink.core.decoder import rfc3339
    from patrolink.evidence.findings import plain

    when = rfc3339(one.time_ms or None) or "at a time not known"
    files = f"{len(one.files)} file{'s' if len(one.files) != 1 else ''}, {one.size / 1e6:.2f} MB"
    said = f", {one.verdict}" if one.verdict else ""
    return plain(f"{one.device} clip {one.number}: {one.trigger or 'no manifest'}, {when}, {files}{said}")
