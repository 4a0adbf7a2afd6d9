"""Known failures: a TOML file of cases that fail for a known reason, so that a run can pass while they are open.

    [[known]]
    case = "PL-BATCH-5-003"
    cause = "wrong_answer"
    reason = "got ..."       # optional: the exact reason
    note = "ticket 4711"

A listed case that passes, is not run or fails in another way is an error, as is an id that no case has.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from patrolink.conformance import suite
from patrolink.conformance.case import CAUSES, Verdict
from patrolink.conformance.profile import ProfileError
from patrolink.conformance.runner import Result
from patrolink.core import settings_file
from patrolink.core.errors import UserError


class KnownFailure(BaseModel):
    """A case that is known to fail."""

    model_config = ConfigDict(extra="forbid")

    case: str
    cause: str
    reason: str | None = None
    note: str = ""


class _KnownFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    known: list[KnownFailure] = []


def load(path: Path) -> list[KnownFailure]:
    """Read the file.

    Raises:
        ProfileError: It cannot be read, names a case twice, or an id or a cause that does not exist.
    """
    keys = [*_KnownFile.model_fields, *KnownFailure.model_fields]
    try:
        known = settings_file.load(path, _KnownFile, keys, "docs/guide/validate.md", "name a file with --known").known
    except UserError as e:
        raise ProfileError(str(e)) from None
    ids = [entry.case for entry in known]
    for entry in known:
        if entry.case not in suite.listed_ids():
            raise ProfileError(f"{path}: {entry.case}: no such case; remove the entry")
        if ids.count(entry.case) > 1:
            raise ProfileError(f"{path}: {entry.case}: listed twice; keep one entry")
        if entry.cause not in CAUSES:
            raise ProfileError(f"{path}: {entry.case}: unknown cause {entry.cause!r}; causes are {', '.join(CAUSES)}")
    return known


def compare(known: Sequence[KnownFailure], results: Sequence[Result]) -> tuple[set[str], list[str]]:
    """Return the ids of the failures that are as listed, and a line for each entry that is not true."""
    by_id = {result.case.id: result.judgement for result in results}
    matching, errors = set(), []
    for entry in known:
        judgement = by_id.get(entry.case)
        if judgement is None:
            errors.append(f"{entry.case}: listed, but not in this run")
        elif judgement.verdict is not Verdict.FAIL:
            errors.append(f"{entry.case}: listed, but its verdict is {judgement.verdict.value}; remove the entry")
        elif judgement.cause != entry.cause or entry.reason not in (None, judgement.reason):
            expected = f"{entry.cause}{'' if entry.reason is None else f': {entry.reason}'}"
            errors.append(
                f"{entry.case}: fails in another way: {judgement.cause}: {judgement.reason}; listed: {expected}"
            )
        else:
            matching.add(entry.case)
    return matching, errors
