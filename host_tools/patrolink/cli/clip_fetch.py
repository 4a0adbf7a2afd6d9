"""Download clips from a hub into a folder and verify them. Complete files are kept, partial ones are continued.

HUB is its console (http://127.0.0.1:8080, https://host:port); the token is taken from PATROLINK_HUB_TOKEN. The devices'
public keys are downloaded once (signers.toml): keys in the file are never replaced. The exit code is 1 when a clip is
tampered with or unverifiable.
"""

import argparse
import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli import clip
from patrolink.cli.clip_list import summary
from patrolink.cli.clip_verify import print_results
from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.progress import Progress

if TYPE_CHECKING:
    from patrolink.evidence.clip_folders import ClipListing
    from patrolink.evidence.verify import ClipVerdict


EXAMPLES = ("patrolink clip fetch http://127.0.0.1:8080 --out clips",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("hub", metavar="HUB", help="the hub's console")
    parser.add_argument("--device", metavar="NAME", help="only clips of this device")
    parser.add_argument("--clip", type=_number, metavar="N", help="only the clip with this number")
    parser.add_argument("--out", default="clips", metavar="DIR", help="folder for the clips (default: clips)")
    clip.add_evidence_key(parser)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a clip number (0 to 999999)")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Download and verify the clips."""
    from patrolink.evidence.clip_folders import SIGNERS_FILE, clip_folder_name, read_signers
    from patrolink.evidence.verify import verify_device

    key = clip.evidence_key(args)
    listings = asyncio.run(_fetch(args))
    clips, signers = Path(args.out), read_signers(Path(args.out) / SIGNERS_FILE)
    results: list[ClipVerdict] = []
    for device in sorted({listing.device for listing in listings}):
        folders = {clip_folder_name(listing.number) for listing in listings if listing.device == device}
        results += verify_device(clips / device, signers, key, folders).clips
    return print_results(results, args.json)


async def _fetch(args: argparse.Namespace) -> "list[ClipListing]":
    from patrolink.evidence import fetch
    from patrolink.hub.dispatch import client

    async with client.http_session(args.hub) as hub:
        listings = [
            listing
            for listing in await fetch.list_clips(hub)
            if args.device in (None, listing.device) and args.clip in (None, listing.number)
        ]
        if not listings:
            raise UserError("the hub has no such clip; run `patrolink clip list` to see its clips")
        for device in await fetch.fetch_signers(hub, Path(args.out)):
            notes.warn(
                f"the hub has other keys for {device} than {args.out}/signers.toml; "
                "if the device has a new key, delete its line from that file"
            )
        with_manifest = [listing for listing in listings if listing.manifest in listing.files]
        for listing in listings:
            if listing not in with_manifest:
                notes.note(f"{summary(listing)}: skipped, the hub does not have its manifest yet")
        with Progress("fetch", sum(listing.size for listing in with_manifest), "bytes") as progress:
            for listing in with_manifest:
                await fetch.fetch_clip(hub, listing, Path(args.out), progress.advance)
        return with_manifest
