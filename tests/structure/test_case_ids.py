"""Ids of conformance cases are never reused: the lines of a released suite do not change."""

import hashlib

from patrolink.conformance import suite


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


def test_lines_of_released_suites_have_not_changed():
    lines = suite.IDS_PATH.read_text(encoding="utf-8").splitlines(keepends=True)
    for version in suite.versions():
        if version.cases:
            text = "".join(lines[: version.cases])
            assert hashlib.sha256(text.encode()).hexdigest() == version.sha256, version.name


def test_older_suite_has_the_cases_of_its_lines(monkeypatch):
    ids = list(suite.listed_ids())
    older = suite.Version("1.0-1", 100, "")
    monkeypatch.setattr(suite, "versions", lambda: [older, suite.Version("1.0-2", 0, "")])
    assert {case.id for case in suite.load("1.0-1")} <= set(ids[:100])
    assert suite.load() == suite.load("1.0-2") == suite.all_cases()
