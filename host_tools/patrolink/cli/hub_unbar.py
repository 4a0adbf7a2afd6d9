"""Admit a barred device again.

Who has held the device may have read its key, and a new key epoch derives from the same key. The device therefore needs
a new key: provision it, enter the key in the site's keys, run this verb, and restart the hub, which reads the keys when
it starts. The old key stays barred for ever. With --keep-key the device keeps its key: use it only for a device that
was never in other hands. A running hub then applies it within a second.

The exit code is 0 when the device is admitted, also if it was not barred, 2 when an argument or a file is wrong or the
device has the same key as before, and 4 when a running hub has not applied it in time.
"""

import argparse
from typing import TYPE_CHECKING

from patrolink.cli import _barring
from patrolink.core.posix import require_posix

if TYPE_CHECKING:
    from patrolink.hub.infra.bar_file import BarFile, Entry

EXAMPLES = (
    'patrolink hub unbar vest-1 --reason "found, new key"',
    'patrolink hub unbar vest-1 --keep-key --reason "was in the locker"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    _barring.add_arguments(parser)
    parser.add_argument("--keep-key", action="store_true", help="admit the device with the key that it had")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    require_posix("hub unbar")

    def admit(content: "BarFile", device: str, entry: "Entry") -> "BarFile":
        return content.without_bar(device, entry, args.keep_key)

    return _barring.change(args, admit)
