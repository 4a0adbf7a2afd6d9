"""Show campaigns, and what has become of each of their devices.

States of a device: planned, deferred (offline or busy; no failure), offered, fetching, installed (it restarts), and at
the end confirmed, failed, skipped or cancelled. A device is confirmed only when it runs the new version and the broker
has acknowledged one of its frames. The exit code is 1 when a campaign has stopped over its threshold or a device has
failed.
"""

import argparse
from pathlib import Path

from patrolink.cli import _campaigns
from patrolink.core.json_lines import print_summary

EXAMPLES = (
    "patrolink ota status",
    "patrolink ota status spring --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("campaign", nargs="?", metavar="NAME", help="only this campaign (default: all)")
    _campaigns.add_site(parser)


def run(args: argparse.Namespace) -> int:
    """Print the campaigns."""
    from patrolink.hub.updates import campaign_file
    from patrolink.hub.updates.update_rows import device_row

    context = _campaigns.home(Path(args.site))
    campaigns = _campaigns.campaigns(context)
    if args.campaign:
        campaign_file.load(context.campaigns).find(args.campaign)
        campaigns = [campaign for campaign in campaigns if campaign.plan.name == args.campaign]
    for campaign in campaigns:
        _campaigns.print_campaign(campaign, args.json)
        for device in campaign.plan.devices:
            _campaigns.print_target(device_row(campaign, device), args.json)
    if args.json:
        print_summary({"campaigns": len(campaigns)})
    elif not campaigns:
        print("no campaigns; `patrolink ota plan` makes one")
    is_bad = any(campaign.state == "stopped" or campaign.counts().get("failed") for campaign in campaigns)
    return 1 if is_bad else 0
