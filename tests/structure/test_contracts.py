"""External contracts do not change: topics, HTTP paths, names on storage, keys, options, vectors."""

import json

import pytest

from tests.support.contracts import GOLDEN, contracts, literals

FROZEN = json.loads(GOLDEN.read_text(encoding="utf-8"))
HINT = "; if the change is intended, edit tests/golden/contracts.json and describe the effect on users in the CHANGELOG"


@pytest.fixture(scope="module")
def current():
    return contracts()


@pytest.mark.parametrize("kind", ["literals", "site_keys", "board_keys"])
def test_no_frozen_name_is_removed(current, kind):
    missing = sorted(set(FROZEN[kind]) - set(current[kind]))
    assert missing == [], f"removed {kind}, which others may depend on: {missing}{HINT}"


def test_schema_hash_is_unchanged(current):
    assert current["schema_hash"] == FROZEN["schema_hash"]


def test_frozen_files_are_unchanged(current):
    changed = [name for name, digest in FROZEN["files"].items() if current["files"].get(name) != digest]
    assert changed == [], f"changed or removed files{HINT}"


def test_literals_are_collected_without_prose_and_module_names(tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        '"""p/docstring"""\ntopic = b"p/%s/u"\npath = f"/clips/{name}.mp4"\nrow = {"fix_age_s": 1}\n'
        'log("hub: no answer")\nmodule = importlib.import_module("patrolink.cli")\n'
    )
    assert literals(source) == {"p/%s/u", "/clips/{}.mp4", "fix_age_s"}
