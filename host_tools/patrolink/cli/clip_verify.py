"""Tell whether clips are what devices recorded: files, chain and signatures; with the evidence key also what is inside.

The verdicts are valid, valid with gaps (each is told), tampered, unverifiable (protocol/CLIP.md). Exit code 1 for the
last two, with --strict for gaps too.
"""

import argparse
import json
from typing import TYPE_CHECKING

from patrolink.cli import clip

if TYPE_CHECKING:
    from patrolink.evidence.verify import Verdict

HELP = "tell whether clips are what devices recorded"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    clip.add_place(parser)
    parser.add_argument("--strict", action="store_true", help="exit code 1 for gaps too")


def run(args: argparse.Namespace) -> int:
    return tell([one for device in clip.verdicts(args) for one in device.clips], args.json, args.strict)


def tell(found: "list[Verdict]", as_json: bool, strict: bool = False) -> int:
    """Print verdicts, say what was found, and return the exit code."""
    code = clip.code_of((one.verdict for one in found), strict)
    if as_json:
        print(json.dumps([one.facts() for one in found]))
    for one in found:
        if not as_json:
            depth = "looked inside" if one.looked_inside else "files, chain and signature only"
            n = len(one.manifest.segments)
            print(f"{one.name}: {one.verdict} ({n} segment{'s' if n != 1 else ''}; {depth})")
        clip.tell(one)
    return code
