"""Ids of conformance cases are never reused: the cases of a closed suite do not change."""

import functools
import shutil

import pytest
from patrolink.conformance import suite, suite_release
from patrolink.core.errors import UserError


def test_every_case_has_an_id_in_the_list():
    missing = [case.vector or case.title for case in suite._module_cases() if case.id not in suite.listed_ids()]
    assert missing == [], "run `make generate`"


def test_ids_and_subjects_are_unique():
    lines = suite.IDS_PATH.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(suite.listed_ids()) == len(suite.ids_by_subject())
    assert [line for line in lines if not suite.CASE_ID.fullmatch(line.partition(" ")[0])] == []


def test_cases_are_what_the_list_says():
    """An id belongs to one subject; its requirement is the case's first one."""
    ids = [case.id for case in suite.all_cases()]
    assert len(ids) == len(set(ids))
    for case in suite.all_cases():
        assert suite.listed_ids()[case.id] == (case.vector or case.title)


def changed_versions() -> list[str]:
    """Return the closed versions whose cases are not those that were closed."""
    closed = [version for version in suite.versions() if version.closed]
    return [
        version.name
        for version in closed
        if suite.digest(version.name) != version.sha256 or len(suite.load(version.name)) != version.cases
    ]


def test_cases_of_closed_suites_have_not_changed():
    assert changed_versions() == []


def test_older_suite_has_the_cases_of_its_lines(monkeypatch):
    ids = list(suite.listed_ids())
    older = suite.Version("1.0-1", 100, "")
    monkeypatch.setattr(suite, "versions", lambda: [older, suite.Version("1.0-2", 0, "")])
    assert {case.id for case in suite.load("1.0-1")} <= set(ids[:100])
    assert suite.load() == suite.load("1.0-2") == suite.all_cases()


@pytest.fixture
def unreleased(tmp_path, monkeypatch):
    """Copies of the lists, with an open version 1.0-1 and an id that no case has; the package uses the copies."""
    ids, versions = tmp_path / "case_ids.txt", tmp_path / "suite.toml"
    shutil.copy(suite.IDS_PATH, ids)
    with ids.open("a") as f:
        f.write("PL-FRAME-1-999 a vector that is gone\n")
    versions.write_text('[[suite]]\nversion = "1.0-1"\n')
    read, caches = suite.listed_ids.__wrapped__, (suite.ids_by_subject, suite.all_cases)
    monkeypatch.setattr(suite, "VERSIONS_PATH", versions)
    monkeypatch.setattr(suite, "listed_ids", functools.cache(lambda: read(ids)))
    yield ids, versions
    for cache in caches:
        cache.cache_clear()


def test_closing_settles_the_cases_of_a_suite(unreleased, monkeypatch):
    ids, versions = unreleased
    n = len(ids.read_text().splitlines())
    with pytest.raises(UserError, match="is open; add cases"):
        suite_release.begin(versions)
    removed = n - len(suite.all_cases())
    assert removed >= 1 and suite_release.close(ids, versions).endswith(f"; {removed} ids without a case removed")
    (version,) = suite.versions()
    assert version.closed and version.cases == len(ids.read_text().splitlines()) == len(suite.all_cases())
    assert "gone" not in ids.read_text() and changed_versions() == []
    with pytest.raises(UserError, match="closed already"):
        suite_release.close(ids, versions)
    # A new case needs the next version; the closed one stays as it is.
    extra = suite.all_cases()[0]._replace(id="", title="a new case", vector="")
    cases = suite._module_cases()
    monkeypatch.setattr(suite, "_module_cases", lambda: [*cases, extra])
    with pytest.raises(UserError, match="suite 1.0-1 is closed; open the next one first"):
        suite.append_new_ids(ids)
    assert suite_release.begin(versions).startswith("suite 1.0-2 is open")
    assert suite.append_new_ids(ids) == 1 and ids.read_text().endswith(" a new case\n")
    assert changed_versions() == [] and suite.versions()[-1].name == "1.0-2"


@pytest.mark.parametrize("change", ["steps", "level", "removed", "renamed"])
def test_change_of_a_closed_suite_is_found(unreleased, monkeypatch, change):
    suite_release.close(*unreleased)
    first, *rest = suite.all_cases()
    changed = {
        "steps": [first._replace(steps=lambda context: [])],
        "level": [first._replace(level="SHOULD")],
        "removed": [],
        "renamed": [first._replace(title="other")],
    }
    monkeypatch.setattr(suite, "all_cases", lambda: [*changed[change], *rest])
    assert changed_versions() == ["1.0-1"]
