"""Loads flaky.toml, the list of tests known to be flaky. An entry has a date and a reason, and expires."""

import ast
import datetime
from pathlib import Path

from patrolink.core import settings_file
from patrolink.core.errors import UserError
from pydantic import BaseModel, ConfigDict, Field

MAX_AGE_DAYS = 30
RERUNS = 2


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Flaky(_Strict):
    test: str = Field(pattern=r"^[\w/.-]+\.py::\w+$")
    since: datetime.date
    reason: str = Field(min_length=10)


class _List(_Strict):
    flaky: list[Flaky] = Field(default_factory=list)


def load(path: Path, root: Path, today: datetime.date) -> dict[str, Flaky]:
    """Return the entries of a flaky.toml by test.

    Args:
        path: The file.
        root: Folder to which the paths of the tests are relative.
        today: The current date.

    Raises:
        UserError: The file is invalid, or an entry names an unknown test or is older than MAX_AGE_DAYS.
    """
    entries = settings_file.load(
        path, _List, list(Flaky.model_fields), "the comment at its top", "restore the file"
    ).flaky
    for entry in entries:
        file, _, name = entry.test.partition("::")
        if name not in _functions(root / file):
            raise UserError(f"{path}: {entry.test}: there is no such test; remove the entry")
        age = (today - entry.since).days
        if not 0 <= age <= MAX_AGE_DAYS:
            raise UserError(
                f"{path}: {entry.test}: since {entry.since}, {age} days (maximum {MAX_AGE_DAYS}); correct the test"
            )
    return {entry.test: entry for entry in entries}


def _functions(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef)}
