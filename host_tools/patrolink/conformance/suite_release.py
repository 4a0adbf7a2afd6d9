"""Closes the newest version of the suite, or opens the next one.

python -m patrolink.conformance.suite_release close|open
"""

import re
import sys
from pathlib import Path

from patrolink.conformance import suite
from patrolink.core.errors import UserError
from patrolink.core.text import plural

_NAME = re.compile(r"(\d+\.\d+)-(\d+)")


def close(ids_path: Path = suite.IDS_PATH, versions_path: Path = suite.VERSIONS_PATH) -> str:
    """Close the newest version: remove ids that no case has, and note the number and the hash of its cases.

    Args:
        ids_path: List of ids.
        versions_path: List of versions.

    Returns:
        What was done, in one line.

    Raises:
        UserError: The newest version is closed already, or a case has no id yet.
    """
    *older, newest = suite.versions()
    if newest.closed:
        raise UserError(f"suite {newest.name} is closed already; `make suite-open` begins the next one")
    if suite.new_lines():
        raise UserError("there are cases without an id; commit what `make generate` adds, then close the suite")
    cases = suite.all_cases()
    known = {case.id for case in cases}
    settled = older[-1].cases if older else 0
    lines = ids_path.read_text(encoding="utf-8").splitlines()
    remaining = lines[:settled] + [line for line in lines[settled:] if line.partition(" ")[0] in known]
    suite.write_ids(remaining, ids_path)
    with versions_path.open("a", encoding="utf-8") as f:
        f.write(f'cases = {len(remaining)}\nsha256 = "{suite.digest_of(cases)}"\n')
    removed = len(lines) - len(remaining)
    return f"suite {newest.name}: {plural(len(remaining), 'case')}; {removed} ids without a case removed"


def begin(versions_path: Path = suite.VERSIONS_PATH) -> str:
    """Open the next version; as `close`.

    Raises:
        UserError: The newest version is open.
    """
    newest = suite.versions()[-1]
    if not newest.closed:
        raise UserError(f"suite {newest.name} is open; add cases to it, or close it first: make suite-close")
    match = _NAME.fullmatch(newest.name)
    assert match is not None
    name = f"{match[1]}-{int(match[2]) + 1}"
    with versions_path.open("a", encoding="utf-8") as f:
        f.write(f'\n[[suite]]\nversion = "{name}"\n')
    return f"suite {name} is open; `make generate` gives ids to its new cases"


if __name__ == "__main__":
    try:
        print(close() if sys.argv[1:] == ["close"] else begin())
    except UserError as e:
        sys.exit(f"error: {e}")
