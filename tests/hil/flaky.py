"""The tests that are known to be flaky: named, dated, with a reason, for a bounded time."""

import ast
import datetime
import sys
from pathlib import Path

from patrolink.core import boards
from patrolink.core.errors import UserError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DAYS = 30
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
    """Return the entries by test; UserError when one names no test, gives no reason, or is older than DAYS."""
    try:
        entries = _List.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).flaky
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: {e}") from None
    except ValidationError as e:
        raise UserError(boards.describe_errors(path, e, list(Flaky.model_fields), "its head")) from None
    for entry in entries:
        file, _, name = entry.test.partition("::")
        if name not in _functions(root / file):
            raise UserError(f"{path}: {entry.test}: there is no such test; take the entry out")
        age = (today - entry.since).days
        if not 0 <= age <= DAYS:
            raise UserError(
                f"{path}: {entry.test}: since {entry.since}, {age} days; mend the test ({DAYS} days at most)"
            )
    return {entry.test: entry for entry in entries}


def _functions(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef)}
