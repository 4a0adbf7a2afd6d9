"""List clips of a hub or of a folder. Nothing is verified: a verdict in the list is the hub's.

PLACE is a hub's console (http://127.0.0.1:8080, https://host:port; the token is taken from PATROLINK_HUB_TOKEN), or a
folder of a clip, of a device, or of a site's clips.
"""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import plural, printable

if TYPE_CHECKING:
    from patrolink.evidence.clip_folders import ClipListing


EXAMPLES = (
    "patrolink clip list clips",
    "patrolink clip list http://127.0.0.1:8080",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("place", metavar="PLACE", help="a hub's console, or a folder of clips")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from patrolink.evidence.clip_folders import ClipSource

    is_hub = args.place.startswith(("http://", "https://"))
    listings = asyncio.run(_list_hub(args.place)) if is_hub else ClipSource(Path(args.place)).listing()
    if args.json:
        for listing in listings:
            print_record("clip", _fields(listing))
        print_summary({"clips": len(listings), "bytes": sum(listing.size for listing in listings)})
    else:
        for listing in listings:
            print(summary(listing))
    return 0


def _fields(listing: "ClipListing") -> dict[str, object]:
    from patrolink.core.decoder import rfc3339

    return {
        "device": listing.device,
        "clip": listing.number,
        "trigger": listing.trigger,
        "time": rfc3339(listing.time_ms),
        "verdict": listing.verdict,
        "bytes": listing.size,
        "files": list(listing.files),
    }


async def _list_hub(url: str) -> "list[ClipListing]":
    from patrolink.evidence import fetch
    from patrolink.hub.dispatch import client

    async with client.http_session(url) as hub:
        return await fetch.list_clips(hub)


def summary(listing: "ClipListing") -> str:
    """Return a clip in one line."""
    from patrolink.core.decoder import rfc3339

    time = rfc3339(listing.time_ms or None) or "time unknown"
    verdict = f", {listing.verdict}" if listing.verdict else ""
    return printable(
        f"{listing.device} clip {listing.number}: {listing.trigger or 'no manifest'}, {time}, "
        f"{plural(len(listing.files), 'file')}, {listing.size / 1e6:.2f} MB{verdict}"
    )
