"""No rename changes what others depend on: topics, HTTP paths, names on storage, keys, options, vectors."""

import json

import pytest

from tests.support.contracts import GOLDEN, contracts, literals

FROZEN = json.loads(GOLDEN.read_text(encoding="utf-8"))
HINT = "; if that is meant, take it out of tests/golden/contracts.json and say in the CHANGELOG who has to follow"


@pytest.fixture(scope="module")
def current():
    return contracts()


@pytest.mark.parametrize("kind", ["literals", "site_keys", "board_keys"])
def test_no_frozen_name_is_gone(current, kind):
    gone = sorted(set(FROZEN[kind]) - set(current[kind]))
    assert gone == [], f"{kind} that others may depend on are gone: {gone}{HINT}"


def test_schema_hash_is_unchanged(current):
    assert current["schema_hash"] == FROZEN["schema_hash"]


def test_frozen_files_are_unchanged(current):
    changed = [name for name, digest in FROZEN["files"].items() if current["files"].get(name) != digest]
    assert changed == [], f"changed or gone{HINT}"


def test_a_literal_counts_wherever_it_stands_and_prose_does_not(tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        '"""p/docstring"""\ntopic = b"p/%s/u"\npath = f"/clips/{name}.mp4"\nrow = {"fix_age_s": 1}\n'
        'log("hub: no answer")\nmodule = importlib.import_module("patrolink.cli")\n'
    )
    assert literals(source) == {"p/%s/u", "/clips/{}.mp4", "fix_age_s"}
