"""Make the delta that changes one agent image into another. Sign it like an image before you use it.

The delta applies only to devices whose slot has exactly the content of BASE. It contains the version and the rollback
number of NEW.
"""

import argparse
from pathlib import Path

from patrolink.cli import image
from patrolink.core import notes
from patrolink.core.json_lines import print_summary

EXAMPLES = ("patrolink image diff agent-1.3.plimg agent-1.4.plimg --out delta.plimg",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("base", metavar="BASE", help="agent image that devices have")
    parser.add_argument("new", metavar="NEW", help="agent image that they get")
    parser.add_argument("--out", required=True, metavar="FILE", help="the delta")


def run(args: argparse.Namespace) -> int:
    """Make the delta."""
    from patrolink.flash.image import build, image_file, release_key

    out = Path(args.out)
    for path in (args.base, args.new):
        image.check_new(out, Path(path))
    base, new = image_file.load(Path(args.base)), image_file.load(Path(args.new))
    result = build.build_delta(base, new)
    image_file.save(out, result)
    image.print_image(args.out, result, release_key.UNSIGNED, args.json, "wrote")
    if base.header.sha256 == new.header.sha256:
        notes.warn("both images have the same content")
    elif len(result.payload) >= len(new.payload):
        notes.warn("the delta is not smaller than the image; send the image")
    if args.json:
        print_summary({"images": 1})
    return 0
