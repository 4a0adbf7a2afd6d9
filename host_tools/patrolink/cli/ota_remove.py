"""Remove a campaign that does not run, with the states of its devices and the images that no other campaign needs.

The audit log keeps what has become of each device.
"""

import argparse
from pathlib import Path

from patrolink.cli import _campaigns, _site_change
from patrolink.core.json_lines import print_summary

EXAMPLES = ("patrolink ota remove spring",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    _campaigns.add_campaign(parser)


def run(args: argparse.Namespace) -> int:
    """Remove the campaign."""
    from patrolink.hub.updates.image_store import ImageStore
    from patrolink.hub.updates.service import APPLIED_FILE

    context = _campaigns.home(Path(args.site))
    store = ImageStore(context.images)
    _, revision = _campaigns.change(
        context,
        lambda content: content.without(args.campaign),
        lambda content: store.remove_others(content.images()),
    )
    hubs = _site_change.wait_until_applied([context], APPLIED_FILE, revision, f"{args.campaign} is removed")
    if args.json:
        print_summary({"applied": hubs})
    else:
        print(f"{args.campaign}: removed")
        print("\n".join(_site_change.describe(hubs)))
    return 0
