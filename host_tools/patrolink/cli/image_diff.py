"""Make the delta that changes one agent image into another. Sign it like an image before you use it.

The delta applies only to devices whose slot has exactly the content of BASE. It contains the version and the rollback
number of NEW. With --full it applies to any device of the board: the whole image, packed for updates over the air.
"""

import argparse
from pathlib import Path

from patrolink.cli import image
from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary

EXAMPLES = (
    "patrolink image diff agent-1.3.plimg agent-1.4.plimg --out delta.plimg",
    "patrolink image diff --full agent-1.4.plimg --out full.plimg",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("base", metavar="BASE", nargs="?", help="agent image that devices have")
    parser.add_argument("new", metavar="NEW", help="agent image that they get")
    parser.add_argument("--full", action="store_true", help="pack the whole image; without BASE")
    parser.add_argument("--out", required=True, metavar="FILE", help="the delta")


def run(args: argparse.Namespace) -> int:
    """Make the delta."""
    from patrolink.flash.image import build, image_file, release_key

    if args.full == (args.base is not None):
        raise UserError("give BASE and NEW, or --full and NEW")
    out = Path(args.out)
    paths = [Path(path) for path in (args.base, args.new) if path is not None]
    for path in paths:
        image.check_new(out, path)
    base = None if args.full else image_file.load(paths[0])
    new = image_file.load(paths[-1])
    result = build.build_delta(base, new)
    image_file.save(out, result)
    image.print_image(args.out, result, release_key.UNSIGNED, args.json, "wrote")
    if base is not None and base.header.sha256 == new.header.sha256:
        notes.warn("both images have the same content")
    elif len(result.payload) >= len(new.payload):
        notes.warn("the delta is not smaller than the image; send the image")
    if args.json:
        print_summary({"images": 1})
    return 0
