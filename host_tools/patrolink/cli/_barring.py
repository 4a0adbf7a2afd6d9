"""What `hub bar` and `hub unbar` share: the change of the file of barred devices, and the wait for running hubs."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from patrolink.cli import _site_change
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.signals import stop_deferred

# Modules of hub/ need pydantic. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.hub.infra.bar_file import BarFile, Entry

    Change = Callable[[BarFile, str, Entry], BarFile]

BARRED = "barred"
_MAX_REASON = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both verbs have."""
    parser.add_argument("device", metavar="DEVICE", help="id of the device")
    parser.add_argument("--site", default="site.toml", metavar="FILE", help="the site file (default site.toml)")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for dispatchers and the audit log")


class Outcome(NamedTuple):
    """What a change did.

    Attributes:
        state: `barred` or `admitted`.
        changed: False if it was so before.
        hubs: `shard` and `state` of each hub of the site: applied, or off (not running on this machine).
    """

    state: str
    changed: bool
    hubs: list[dict[str, Any]]


def change(args: argparse.Namespace, apply: "Change") -> int:
    """Change the file as `apply_change` does, and print the result. Returns the exit code."""
    outcome = apply_change(Path(args.site), args.device, args.reason, apply)
    print_outcome(args.device, outcome, args.json)
    return 0


def apply_change(
    path: Path, device: str, reason: str, apply: "Change", stored: Callable[[], None] = lambda: None
) -> Outcome:
    """Change the file, and wait until the running hubs of the site have applied it.

    Args:
        path: The site file.
        device: Id of the device.
        reason: Why.
        apply: Returns the changed content: (content, device, entry).
        stored: Called when the change is on storage, before the wait for hubs; a stop signal takes effect afterwards.

    Raises:
        UserError: The site file, the device, the reason or the file is wrong, or storage failed.
        DeadlineError: A running hub has not applied the change.
    """
    from patrolink.hub import config
    from patrolink.hub.barring import APPLIED_FILE
    from patrolink.hub.infra import bar_file, shared_file

    reason = reason.strip()
    if not 0 < len(reason) <= _MAX_REASON:
        raise UserError(f"--reason must have 1 to {_MAX_REASON} characters")
    shards = [hub.shard for hub in config.load(path).hub]
    contexts = [config.HubContext(path, shard) for shard in shards]
    key = contexts[0].keys.get(device)
    if key is None:
        raise UserError(f"no device {device!r} in {contexts[0].site.keys}; check its id")
    bars = contexts[0].bars
    now_ms = time.time_ns() // 1_000_000
    entry = bar_file.Entry(who=_site_change.operator(), reason=reason, time_ms=now_ms, key=bar_file.fingerprint(key))
    try:
        bars.parent.mkdir(parents=True, exist_ok=True)
        with shared_file.locked(bars):
            before = bar_file.load(bars)
            after = apply(before, device, entry)
            with stop_deferred():
                if after is not before:
                    bar_file.save(bars, after)
                stored()
    except OSError as e:
        raise UserError(f"{e.filename or bars}: {e.strerror}; run this as the hub's user") from None
    state = BARRED if device in after.devices else "admitted"
    hubs = _site_change.wait_until_applied(contexts, APPLIED_FILE, after.revision, f"{device} is {state}")
    return Outcome(state, after is not before, hubs)


def print_outcome(device: str, outcome: Outcome, as_json: bool) -> None:
    """Print what a change did."""
    if as_json:
        barred = outcome.state == BARRED
        print_summary({"device": device, "barred": barred, "changed": outcome.changed, "applied": outcome.hubs})
        return
    print(f"{device} is {outcome.state}" + ("" if outcome.changed else " already"))
    for line in _site_change.describe(outcome.hubs):
        print(line)
