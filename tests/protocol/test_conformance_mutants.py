"""The table of mutants: each can be applied, names a requirement, and the published page is that of a complete run."""

import re
from collections import Counter

import pytest
from patrolink.conformance import suite
from patrolink.conformance.report.document import requirements

from tests.protocol import conformance_mutants as runner
from tests.support import mutants as single_faults

MUTANTS = single_faults.load(runner.MUTANTS)
SAMPLE = ("only 8 bytes of a long tag are compared", "the window is one counter too large", "seconds are signed")
SAMPLE += ("Floor Revoke is ignored", "the chain begins anew with each clip")
SAMPLE += ("the old key is accepted for ever", "the interval of an event grows by 10 s")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant['file'][-4:]}-{mutant['name']}")
def test_each_mutant_replaces_one_text(mutant):
    assert single_faults.apply(mutant) != (single_faults.ROOT / mutant["file"]).read_text(encoding="utf-8")
    assert mutant["requirement"] in requirements()


def test_there_are_enough_mutants_of_both_codecs():
    languages = Counter(runner.language(mutant) for mutant in MUTANTS)
    assert languages["C"] >= 30 and languages["Python"] >= 30 and languages[runner.AGENT] >= 30
    names = Counter((mutant["file"], mutant["name"]) for mutant in MUTANTS)
    assert [name for name, n in names.items() if n > 1] == []


def test_published_table_has_every_mutant_caught_by_a_case_of_its_requirement():
    page = runner.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z]+-\d+) \| (.+?) \| (C|Python|Agent|Device) \| (\S+) \|", page, re.M)
    expected = {(m["requirement"], m["name"], runner.language(m)) for m in MUTANTS}
    assert {row[:3] for row in rows} == expected, "run python tests/protocol/conformance_mutants.py --write"
    by_id = {case.id: case for case in suite.all_cases()}
    for requirement, name, language, case_id in rows:
        assert by_id[case_id].requirement == requirement
        assert f"{language}: {name}" in by_id[case_id].mutants


@pytest.mark.parametrize("number", [i for i, mutant in enumerate(MUTANTS) if mutant["name"] in SAMPLE])
def test_sample_of_mutants_is_caught(number):
    assert runner.run_mutant(number)["case"]


def test_testees_without_a_fault_fail_no_case():
    assert runner.failing_without_fault() == {"C": [], "Python": [], runner.AGENT: [], runner.EXAMPLE: []}


def test_every_case_of_voice_clips_and_updates_has_caught_a_mutant():
    families = ("PTT-", "CLIP-", "FIRMWARE-")
    cases = [case for case in runner.device_cases() if case.requirement.startswith(families)]
    assert len(cases) > 50
    assert [case.title for case in cases if not case.mutants] == []
