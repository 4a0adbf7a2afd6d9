"""Pause a campaign: no device is updated any more, and those that have not restarted yet cancel.

A device that restarts into the new version already finishes, and its result is counted. The exit code is 4 when the
running hub has not applied it in time.
"""

import argparse
import time
from pathlib import Path

from patrolink.cli import _campaigns, _site_change

EXAMPLES = ('patrolink ota pause spring --reason "storm warning tonight"',)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    _campaigns.add_campaign(parser)
    _campaigns.add_reason(parser)


def run(args: argparse.Namespace) -> int:
    """Pause the campaign."""
    context = _campaigns.home(Path(args.site))
    reason, now_ms, who = _campaigns.reason(args), time.time_ns() // 1_000_000, _site_change.operator()
    return _campaigns.decide(args, context, lambda content: content.paused(args.campaign, who, reason, now_ms))
