"""Start a planned campaign, or continue one that was paused or has stopped.

Devices that were cancelled or skipped are updated then; those that have failed are not: plan a campaign for them. The
count of errors begins anew. The exit code is 4 when the running hub has not applied it in time.
"""

import argparse
import time
from pathlib import Path

from patrolink.cli import _campaigns, _site_change

EXAMPLES = (
    "patrolink ota start spring",
    'patrolink ota start spring --reason "the two failures were boards with broken flash"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    _campaigns.add_campaign(parser)
    _campaigns.add_reason(parser)


def run(args: argparse.Namespace) -> int:
    """Start the campaign."""
    from patrolink.hub.updates.target import OPEN

    context = _campaigns.home(Path(args.site))
    others = {campaign.plan.name: campaign for campaign in _campaigns.campaigns(context)}
    reason, now_ms = _campaigns.reason(args), time.time_ns() // 1_000_000

    def is_open(name: str, device: str) -> bool:
        return name in others and others[name].is_running and others[name].targets[device].progress in OPEN

    who = _site_change.operator()
    return _campaigns.decide(
        args, context, lambda content: content.started(args.campaign, who, reason, now_ms, is_open)
    )
