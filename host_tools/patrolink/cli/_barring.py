"""What `hub bar` and `hub unbar` share: the change of the file of barred devices, and the wait for running hubs."""

import argparse
import contextlib
import getpass
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from patrolink.core.errors import DeadlineError, UserError
from patrolink.core.json_lines import print_summary
from patrolink.core.signals import stop_deferred

# Modules of hub/ need pydantic. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.hub.config import HubContext
    from patrolink.hub.infra.bar_file import BarFile, Entry

    Change = Callable[[BarFile, str, Entry], BarFile]

_WAIT_S = 10
BARRED = "barred"
_POLL_S = 0.05
_MAX_WHO, _MAX_REASON = 200, 500


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
    entry = bar_file.Entry(who=_who(), reason=reason, time_ms=now_ms, key=bar_file.fingerprint(key))
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
    hubs = _wait(contexts, after.revision)
    state = BARRED if device in after.devices else "admitted"
    late = [str(hub["shard"]) for hub in hubs if hub["state"] == "late"]
    if late:
        raise DeadlineError(
            f"{device} is {state} on storage, but the hub of shard {', '.join(late)} runs and has not applied it "
            f"within {_WAIT_S} s; check its log, or restart it"
        )
    return Outcome(state, after is not before, hubs)


def _who() -> str:
    name = os.environ.get("SUDO_USER", "")
    if not name:
        with contextlib.suppress(KeyError, OSError):
            name = getpass.getuser()
    return (name or str(os.getuid()))[:_MAX_WHO]


def _wait(contexts: "list[HubContext]", revision: int) -> list[dict[str, Any]]:
    """Return each hub's state: applied, off (not running on this machine), or late."""
    from patrolink.hub.infra import instance_lock

    deadline = time.monotonic() + _WAIT_S
    hubs = []
    for context in contexts:
        state = "off"
        while instance_lock.is_held(context.state):
            if _applied_revision(context.state) >= revision:
                state = "applied"
                break
            if time.monotonic() > deadline:
                state = "late"
                break
            time.sleep(_POLL_S)
        hubs.append({"shard": context.hub.shard, "state": state})
    return hubs


def _applied_revision(folder: Path) -> int:
    from patrolink.hub.barring import APPLIED_FILE

    try:
        revision: int = json.loads((folder / APPLIED_FILE).read_bytes())["revision"]
        return revision
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def print_outcome(device: str, outcome: Outcome, as_json: bool) -> None:
    """Print what a change did."""
    if as_json:
        barred = outcome.state == BARRED
        print_summary({"device": device, "barred": barred, "changed": outcome.changed, "applied": outcome.hubs})
        return
    print(f"{device} is {outcome.state}" + ("" if outcome.changed else " already"))
    words = {"applied": "applied", "off": "not running here; it applies this when it starts", "late": "not applied yet"}
    for hub in outcome.hubs:
        print(f"hub of shard {hub['shard']}: {words[hub['state']]}")
