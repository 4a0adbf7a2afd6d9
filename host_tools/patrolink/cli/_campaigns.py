"""What the verbs of `ota` share: the site's file of campaigns, and how campaigns are printed."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli import _site_change
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.posix import require_posix
from patrolink.core.signals import stop_deferred
from patrolink.core.text import plural, printable

# Modules of hub/ need pydantic. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.hub.config import HubContext
    from patrolink.hub.updates.campaign import Campaign
    from patrolink.hub.updates.campaign_file import CampaignFile

    Change = Callable[[CampaignFile], CampaignFile]

_REASON_CHARACTERS_MAX = 500


def add_site(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the site."""
    parser.add_argument("--site", default="site.toml", metavar="FILE", help="the site file (default site.toml)")


def add_campaign(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a campaign of a site."""
    parser.add_argument("campaign", metavar="NAME", help="name of the campaign")
    add_site(parser)


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Add the argument of a decision."""
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for dispatchers and the audit log")


def reason(args: argparse.Namespace) -> str:
    """Return the reason of a decision. Raises UserError if it is too long."""
    text: str = args.reason.strip()
    if len(text) > _REASON_CHARACTERS_MAX:
        raise UserError(f"--reason has more than {_REASON_CHARACTERS_MAX} characters; shorten it")
    return text


def home(path: Path) -> "HubContext":
    """Return the home hub of a site, which has the campaigns. Raises UserError."""
    from patrolink.hub.config import HubContext, load

    require_posix("ota")
    return HubContext(path, load(path).home_shard())


def change(
    context: "HubContext", apply: "Change", stored: "Callable[[CampaignFile], None]" = lambda content: None
) -> tuple["CampaignFile", int]:
    """Change the file of campaigns.

    Args:
        context: The home hub.
        apply: Returns the changed content; it may raise UserError.
        stored: Called with the content when it is on storage; a stop signal takes effect afterwards.

    Returns:
        The content, and its revision.

    Raises:
        UserError: The file is invalid, or storage failed.
    """
    from patrolink.hub.infra import shared_file
    from patrolink.hub.updates import campaign_file

    path = context.campaigns
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with shared_file.locked(path):
            before = campaign_file.load(path)
            after = apply(before)
            with stop_deferred():
                if after is not before:
                    shared_file.save(path, after)
                stored(after)
    except OSError as e:
        raise UserError(f"{e.filename or path}: {e.strerror}; run this as the hub's user") from None
    return after, after.revision


def decide(args: argparse.Namespace, context: "HubContext", apply: "Change") -> int:
    """Change a campaign, wait until the hub has applied it, and print the campaign. Returns the exit code."""
    from patrolink.hub.updates.service import APPLIED_FILE

    _, revision = change(context, apply)
    hubs = _site_change.wait_until_applied([context], APPLIED_FILE, revision, f"{args.campaign} is changed")
    (campaign,) = (each for each in campaigns(context) if each.plan.name == args.campaign)
    if args.json:
        print_campaign(campaign, as_json=True)
        print_summary({"applied": hubs})
    else:
        print_campaign(campaign, as_json=False)
        print("\n".join(_site_change.describe(hubs)))
    return 0


def campaigns(context: "HubContext") -> "list[Campaign]":
    """Return the campaigns of a site in their present state, in the order in which they were planned.

    Raises:
        UserError: A file cannot be read.
    """
    from patrolink.hub.infra import record_journal
    from patrolink.hub.updates import campaign_file, update_state

    records = record_journal.load(context.state / update_state.STATE_FILE)
    result = []
    for plan in campaign_file.load(context.campaigns).campaigns:
        campaign = update_state.restore(plan, records, _no_command)
        campaign.decide(plan)  # also when no hub has applied it yet
        result.append(campaign)
    return result


def _no_command() -> None:
    """Allocate no command: only a hub does."""


def names(path: Path) -> list[str]:
    """Return the names of the campaigns of a site. Raises UserError."""
    from patrolink.hub.updates import campaign_file

    return [plan.name for plan in campaign_file.load(home(path).campaigns).campaigns]


def print_campaign(campaign: "Campaign", as_json: bool) -> None:
    """Print a campaign: its record, or a line."""
    from patrolink.hub.updates.update_rows import campaign_row

    row = campaign_row(campaign)
    if as_json:
        print_record("update_campaign", row)
        return
    counts = ", ".join(f"{n} {state}" for state, n in row["update_states"].items())
    why = f" ({row['campaign_reason']})" if row["campaign_reason"] else ""
    line = f"{row['campaign']}: {row['campaign_state']}{why}, version {row['firmware_version']}, "
    print(printable(f"{line}{plural(row['devices'], 'device')}: {counts}"))


def print_target(row: dict[str, Any], as_json: bool) -> None:
    """Print a device of a campaign: its record, or a line."""
    if as_json:
        print_record("update_target", row)
        return
    why = f": {row['update_reason']}" if row["update_reason"] else ""
    print(printable(f"  {row['device']}: {row['update_state']}{why}"))
