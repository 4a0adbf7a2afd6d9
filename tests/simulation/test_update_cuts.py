"""Power cuts of updates at one operation in nine; `make sim` runs all."""

import pytest

from tests.simulation import update_cuts, update_mutants
from tests.support import mutants


def test_power_cuts_brick_nothing_and_lose_no_confirmation(capsys):
    assert update_cuts.main(9) == 0, capsys.readouterr().err


@pytest.mark.parametrize("mutant", mutants.load(update_mutants.MUTANTS), ids=lambda mutant: mutant["name"])
def test_mutant_replaces_a_text_that_occurs_once(mutant):
    assert mutants.apply(mutant)


def test_a_mutant_is_caught(capsys):
    assert update_mutants.main("a compaction writes its header first") == 0, capsys.readouterr().out
