"""Power cuts of updates at some operations, on NOR flash and in files; `make sim` runs all."""

import pytest

from tests.simulation import file_cuts, update_cuts, update_mutants
from tests.support import mutants


def test_power_cuts_brick_nothing_and_lose_no_confirmation(capsys):
    assert update_cuts.main(9) == 0, capsys.readouterr().err


def test_losses_of_files_brick_nothing_and_lose_no_confirmation(capsys):
    assert file_cuts.main(17) == 0, capsys.readouterr().err


@pytest.mark.parametrize("mutant", mutants.load(update_mutants.MUTANTS), ids=lambda mutant: mutant["name"])
def test_mutant_replaces_a_text_that_occurs_once(mutant):
    assert mutants.apply(mutant)


@pytest.mark.parametrize("name", ["a compaction writes its header first", "boot records are written in place"])
def test_a_mutant_is_caught(capsys, name):
    assert update_mutants.main(name) == 0, capsys.readouterr().out
