"""The text that a mutant replaces is in its file: a table whose code has moved on proves nothing."""

import pytest

from tests.support import mutants

TABLES = sorted((mutants.ROOT / "tests").rglob("*_mutants.toml"))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_each_mutant_can_be_applied(table):
    names = [(mutant["name"], mutant["file"]) for mutant in mutants.load(table)]
    assert len(names) == len(set(names)) > 20
    for mutant in mutants.load(table):
        assert mutants.apply(mutant) != (mutants.ROOT / mutant["file"]).read_text(encoding="utf-8"), mutant["name"]
