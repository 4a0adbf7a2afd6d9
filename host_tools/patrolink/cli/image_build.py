"""Build the image of a board, not signed yet. The same sources and options give the same bytes.

The agent image is compiled from the sources in this package. With --platform the image contains a platform binary
instead: the firmware with interpreter and slot selector.
"""

import argparse
from pathlib import Path

from patrolink import __version__
from patrolink.cli import image
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary

EXAMPLES = (
    "patrolink image build --board mps2_an385 --rollback 1 --out agent.plimg",
    "patrolink image build --board rpi_pico --version 1.4.0 --rollback 3 --out agent.plimg",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--board", required=True, metavar="BOARD", help="name of the board, or its board.toml")
    parser.add_argument(
        "--version", default=__version__, metavar="TEXT", help="version of the firmware (default: %(default)s)"
    )
    parser.add_argument(
        "--rollback",
        required=True,
        type=int,
        metavar="N",
        help="rollback number: a device that ran an image with a higher one refuses this image",
    )
    parser.add_argument(
        "--platform-number",
        type=int,
        default=1,
        metavar="N",
        help="lowest platform that the agent runs on; with --platform its own number (default: %(default)s)",
    )
    parser.add_argument("--platform", metavar="FILE", help="binary of the platform, for a platform image")
    parser.add_argument("--out", required=True, metavar="FILE", help="the image")


def run(args: argparse.Namespace) -> int:
    """Build the image."""
    from patrolink.core import boards
    from patrolink.flash.image import build, image_file, release_key

    board = boards.find(args.board)
    info = build.BuildInfo(args.version, args.rollback, args.platform_number)
    if args.platform:
        image.check_new(Path(args.out), Path(args.platform))
        result = build.build_platform(board, _binary(Path(args.platform)), info)
    else:
        result = build.build_agent(board, info)
    image_file.save(Path(args.out), result)
    image.print_image(args.out, result, release_key.UNSIGNED, args.json, "wrote")
    if args.json:
        print_summary({"images": 1})
    return 0


def _binary(path: Path) -> bytes:
    from patrolink_protocol.image_header import CONTENT_MAX

    with path.open("rb") as f:
        data = f.read(CONTENT_MAX + 1)
    if not 0 < len(data) <= CONTENT_MAX:
        raise UserError(f"{path}: a platform binary has 1 to {CONTENT_MAX} bytes; give the firmware of the board")
    return data
