"""Bar a device from a site: a lost or stolen one, or one that somebody has copied.

A running hub applies it within a second, without a restart: the device leaves all groups, its burst ends, the groups
get new keys at once, its uploads and frames are refused, its live view ends, and it is told to stun itself. An SOS of
the device is still shown, marked as that of a barred device. A hub that does not run applies it when it starts. The
site's state keeps who barred the device, when and why. Run it on each machine with a hub of the site, as the hub's
user.

The exit code is 0 when the device is barred, also if it was before, 2 when an argument or a file is wrong, and 4 when a
running hub has not applied it in time.
"""

import argparse
from typing import TYPE_CHECKING

from patrolink.cli import _barring
from patrolink.core.posix import require_posix

if TYPE_CHECKING:
    from patrolink.hub.infra.bar_file import BarFile, Entry

EXAMPLES = (
    'patrolink hub bar vest-1 --reason "lost at the pier"',
    'patrolink hub bar vest-1 --site /etc/patrolink/site.toml --reason "stolen" --json',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    _barring.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    require_posix("hub bar")
    return _barring.change(args, _bar)


def _bar(content: "BarFile", device: str, entry: "Entry") -> "BarFile":
    return content.with_bar(device, entry)
