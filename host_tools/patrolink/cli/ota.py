"""Update devices over the air, in campaigns: plan, start, pause, watch and remove them.

The home hub of the site sends the images, block by block, to devices that are online and idle. A campaign stops without
a request when too many devices fail. Run these verbs on the machine of the home hub, as the hub's user.
"""

import argparse

from patrolink.cli._parser import add_verb
from patrolink.cli._verbs import OTA_VERBS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the parsers of the verbs, each a module patrolink.cli.ota_<verb>."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, help_line in OTA_VERBS.items():
        add_verb(verbs, f"ota_{name}", help_line)
