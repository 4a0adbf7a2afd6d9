"""What verbs share that change a file of a site's state: the operator, and the wait for hubs that run."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.core.errors import DeadlineError
from patrolink.core.posix import user_name

if TYPE_CHECKING:
    from patrolink.hub.config import HubContext

_WAIT_S = 10
_POLL_S = 0.05
_OPERATOR_CHARACTERS_MAX = 200


def operator() -> str:
    """Return the name of who runs this, also behind sudo."""
    name = os.environ.get("SUDO_USER") or user_name() or str(os.getuid())
    return name[:_OPERATOR_CHARACTERS_MAX]


def wait_until_applied(
    contexts: "Iterable[HubContext]", applied_file: str, revision: int, change: str
) -> list[dict[str, Any]]:
    """Wait until the running hubs of a site have applied a change.

    Args:
        contexts: The hubs.
        applied_file: Name of the file in which a hub states the revision that it has applied.
        revision: Revision of the changed file.
        change: What is on storage, for the error message.

    Returns:
        `shard` and `state` of each hub: applied, or off (not running on this machine).

    Raises:
        DeadlineError: A running hub has not applied the change.
    """
    from patrolink.hub.infra import instance_lock

    deadline = time.monotonic() + _WAIT_S
    hubs, late = [], []
    for context in contexts:
        state = "off"
        while instance_lock.is_held(context.state):
            if _applied_revision(context.state / applied_file) >= revision:
                state = "applied"
                break
            if time.monotonic() > deadline:
                late.append(str(context.hub.shard))
                break
            time.sleep(_POLL_S)
        hubs.append({"shard": context.hub.shard, "state": state})
    if late:
        raise DeadlineError(
            f"{change} on storage, but the hub of shard {', '.join(late)} runs and has not applied it "
            f"within {_WAIT_S} s; check its log, or restart it"
        )
    return hubs


def describe(hubs: Iterable[dict[str, Any]]) -> list[str]:
    """Return a line for people for each hub of `wait_until_applied`."""
    words = {"applied": "applied", "off": "not running here; it applies this when it starts"}
    return [f"hub of shard {hub['shard']}: {words[hub['state']]}" for hub in hubs]


def _applied_revision(path: Path) -> int:
    try:
        revision: int = json.loads(path.read_bytes())["revision"]
        return revision
    except (OSError, ValueError, KeyError, TypeError):
        return -1
