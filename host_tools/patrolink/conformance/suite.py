"""The suite: its versions, the list of case ids, and the cases that are found in `cases/`.

`case_ids.txt` has a line for each case: its id and its subject (name of a vector, or a title). Lines are only ever
appended. `python -m patrolink.conformance.suite` appends the cases that have none yet, as long as the newest version is
open; `suite_release.py` closes a version and opens the next one.
"""

import functools
import hashlib
import importlib
import pkgutil
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from patrolink.conformance import cases as case_modules
from patrolink.conformance.case import Case, Context, DeviceUnderTest
from patrolink.conformance.evidence import canonical
from patrolink.core.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).resolve().parent
IDS_PATH = _FOLDER / "case_ids.txt"
VERSIONS_PATH = _FOLDER / "suite.toml"
_MUTANTS_PATH = _FOLDER / "mutants.toml"  # which mutants a case has caught
CASE_ID = re.compile(r"PL-([A-Z]+-\d+)-\d{3}")


class Version(NamedTuple):
    """A version of the suite.

    Attributes:
        name: Such as "1.0-1".
        cases: Number of lines of the list that belong to it; 0: all, as the version is open.
        sha256: `digest` of it when it was closed; empty while it is open.
    """

    name: str
    cases: int
    sha256: str

    @property
    def closed(self) -> bool:
        """Whether its cases are settled."""
        return self.cases > 0


def versions() -> list[Version]:
    """Return the versions of the suite, oldest first; the last one is the current one."""
    table = tomllib.loads(VERSIONS_PATH.read_text(encoding="utf-8"))
    return [Version(entry["version"], entry.get("cases", 0), entry.get("sha256", "")) for entry in table["suite"]]


@functools.cache
def listed_ids(path: Path = IDS_PATH) -> dict[str, str]:
    """Return subject by case id, in the order of the list."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {case_id: subject for case_id, _, subject in (line.partition(" ") for line in lines)}


@functools.cache
def ids_by_subject() -> dict[str, str]:
    """Return case id by subject."""
    return {subject: case_id for case_id, subject in listed_ids().items()}


def load(version: str | None = None) -> list[Case]:
    """Return the cases of a version of the suite, ordered by id.

    Args:
        version: Name of the version; None: the current one.

    Raises:
        UserError: There is no such version.
    """
    known = {entry.name: entry for entry in versions()}
    entry = known.get(version or list(known)[-1])
    if entry is None:
        raise UserError(f"no suite {version}; this tool has {', '.join(known)}")
    ids = list(listed_ids())
    members = set(ids[: entry.cases] if entry.cases else ids)
    return [case for case in all_cases() if case.id in members]


@functools.cache
def all_cases() -> list[Case]:
    """Return all cases that have an id, ordered by id."""
    mutants = tomllib.loads(_MUTANTS_PATH.read_text(encoding="utf-8"))["mutants"]
    listed = [case._replace(mutants=tuple(mutants.get(case.id, ()))) for case in _module_cases() if case.id]
    return sorted(listed, key=lambda case: case.id)


def _module_cases() -> list[Case]:
    names = sorted(module.name for module in pkgutil.iter_modules(case_modules.__path__))
    modules = [importlib.import_module(f"{case_modules.__name__}.{name}") for name in names]
    return [case for module in modules for case in module.cases()]


def digest(version: str) -> str:
    """Return the SHA-256 over the cases of a version: ids, subjects, requirements, levels, claims and steps.

    A later tool has the same hash for a closed version. Of steps that depend on answers, only the first counts.

    Raises:
        UserError: There is no such version.
    """
    return digest_of(load(version))


def digest_of(cases: list[Case]) -> str:
    """Return the SHA-256 over cases; see `digest`."""
    sha = hashlib.sha256()
    device = DeviceUnderTest("vest-1", bytes(range(32)), 0, 1)
    for case in cases:
        script = case.steps(Context(case, 1, device))
        steps = [next(script)] if isinstance(script, Generator) else list(script)
        names = [case.id, case.title, case.requirement, *case.also, case.tier, case.level, case.claim, case.vector]
        sha.update(canonical([names, case.timed, [list(step) for step in steps]]).encode())
    return sha.hexdigest()


def new_lines() -> list[str]:
    """Return lines for the cases that are not in the list, each with an id that no other case has."""
    listed = listed_ids()
    subjects = set(listed.values())
    last: dict[str, int] = {}
    for case_id in listed:
        stem, _, number = case_id.rpartition("-")
        last[stem] = max(last.get(stem, 0), int(number))
    lines = []
    for case in _module_cases():
        subject = case.vector or case.title
        if case.id in listed or subject in subjects:
            continue
        if not case.id:
            stem = f"PL-{case.requirement}"
            last[stem] = last.get(stem, 0) + 1
            lines.append(f"{stem}-{last[stem]:03d} {subject}")
        else:
            lines.append(f"{case.id} {subject}")
    return lines


def append_new_ids(path: Path = IDS_PATH) -> int:
    """Append the ids of cases that are not in the list; return how many.

    Raises:
        UserError: There are some, and the newest version of the suite is closed.
    """
    lines = new_lines()
    if lines and versions()[-1].closed:
        raise UserError(f"suite {versions()[-1].name} is closed; open the next one first: make suite-open")
    write_ids([*path.read_text(encoding="utf-8").splitlines(), *lines], path)
    return len(lines)


def write_ids(lines: list[str], path: Path = IDS_PATH) -> None:
    """Write the list of ids."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    listed_ids.cache_clear()
    ids_by_subject.cache_clear()
    all_cases.cache_clear()


if __name__ == "__main__":
    try:
        print(f"{append_new_ids()} new case ids")
    except UserError as error:
        sys.exit(f"error: {error}")
