"""`--json` of every verb that needs no hub: records and fields are those of docs/guide/json.md."""

import collections
import io
import os
import subprocess
import sys

import pytest
from patrolink.cli import main
from patrolink.core import json_lines
from patrolink.emulator.scenarios.shift import ShiftReport

from tests.support.json_lines import documented, messages, records
from tests.support.paths import ROOT

LOG = ROOT / "tests" / "golden" / "nmea" / "ublox-8.log"
TRACK = ROOT / "tests" / "golden" / "tracks" / "walk-1hz.csv"


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    path = tmp_path_factory.mktemp("capture") / "walk.plcap"
    assert main(["pack", str(TRACK), str(path), "--device", "vest-1", "-q"]) == 0
    return path


@pytest.mark.parametrize(
    ("command", "code", "kinds"),
    [
        (["boards"], 0, {"board", "summary"}),
        (["doctor"], 0, {"finding", "summary"}),
        (["decode", "CAPTURE"], 0, {"position", "summary"}),
        (["decode", "CAPTURE", "--format", "csv", "--output", "OUT"], 0, {"summary"}),
        (["decode", "nothing"], 2, {"error"}),
        (["monitor", "CAPTURE"], 0, {"position", "summary"}),
        (["monitor", "CAPTURE", "--keys", "OTHER"], 1, {"rejected", "summary"}),
        (["fix", str(LOG)], 0, {"fix", "summary"}),
        (["pack", str(TRACK), "OUT"], 0, {"summary"}),
        (["hub", "--example"], 0, {"example"}),
        (["hub", "--new-token", "duty"], 0, {"token"}),
        (["hub", "--new-evidence-key", "OUT"], 0, {"evidence_key"}),
        (["emulate", "--network", "lift", "--hours", "0.1"], 0, {"summary"}),
        (["doctor"], 0, {"finding", "summary"}),
        (["clip", "list", "no such folder"], 2, {"error"}),
        (["image", "build", "--board", "mps2_an385", "--rollback", "1", "--out", "OUT"], 0, {"image", "summary"}),
        (["image", "key", "OUT"], 0, {"release_key"}),
        (["dissector", "OUT"], 0, {"dissector"}),
        (["image", "inspect", "CAPTURE"], 2, {"error"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_records_and_fields_are_documented(capture, tmp_path, capsys, command, code, kinds):
    (tmp_path / "keys.toml").write_text("[devices]\n")
    (tmp_path / "keys.toml").chmod(0o600)
    places = {"CAPTURE": str(capture), "OUT": str(tmp_path / "out.csv"), "OTHER": str(tmp_path / "keys.toml")}
    assert main([*(places.get(word, word) for word in command), "--json"]) == code
    rows = records(capsys.readouterr().out)
    assert {row["record"] for row in rows} == kinds
    assert rows[-1]["record"] in kinds and [row["record"] for row in rows[:-1]].count("summary") == 0


def test_report_of_a_firmware_image_is_documented():
    fields = set(ShiftReport("", "", 1, 1.0, "", 1).json())
    assert fields <= documented()["summary"].keys(), fields - documented()["summary"].keys()


def test_an_error_of_the_settings_is_a_record_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "patrolink.toml").write_text("[boards\n")
    assert main(["boards", "--json"]) == 2
    (error,) = records(capsys.readouterr().out)
    assert error["exit_code"] == 2 and "not TOML" in error["text"]


def test_a_field_has_one_meaning():
    meanings = collections.defaultdict(set)
    for fields in documented().values():
        for name, meaning in fields.items():
            meanings[name].add(meaning)
    assert {name: texts for name, texts in meanings.items() if len(texts) > 1} == {}


def test_kinds_of_verbs_are_no_messages_of_devices():
    assert not documented().keys() & messages().keys()


@pytest.mark.parametrize("options", [["--json"], []])
def test_output_into_a_pipe_is_utf_8_in_any_locale(options):
    command = [sys.executable, "-m", "patrolink", "hub", "--new-token", "巡逻 é 😀", *options]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    if options:
        assert records(done.stdout.decode())[0]["dispatcher"] == "巡逻 é 😀"


def test_unprintable_characters_are_escaped(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    json_lines.print_record("error", {"text": "a\u2028b\x9b\u202e\n"})
    assert out.getvalue() == '{"record": "error", "text": "a\\u2028b\\u009b\\u202e\\n"}\n'
