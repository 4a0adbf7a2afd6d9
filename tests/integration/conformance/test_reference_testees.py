"""Our own agent as a testee of the device tier."""

import shlex
import sys

import pytest
from patrolink.cli import main
from patrolink.conformance.case import DEVICE
from patrolink.emulator import testee
from patrolink.emulator.testee.__main__ import main as run_testee

from tests.support.json_lines import records, summary
from tests.support.paths import ROOT


def validate(board, monkeypatch, tmp_path, capsys):
    """Run the device tier on the agent of a board; return exit code, summary and results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = f"build/testee/{board}"
    assert run_testee(["init", folder]) == 0
    target = f"exec:{shlex.join([sys.executable, '-m', testee.__name__, 'pipe', board, folder])}"
    profile = ROOT / "boards" / board / "conformance.toml"
    arguments = ["--tier", DEVICE, "--profile", str(profile), "--keys", f"{folder}/keys.toml", "--json"]
    code = main(["validate", target, *arguments])
    output = capsys.readouterr().out
    return code, summary(output), records(output, "case_result")


@pytest.mark.parametrize("board", ["linux"])
def test_every_case_passes(board, monkeypatch, tmp_path, capsys):
    code, counts, results = validate(board, monkeypatch, tmp_path, capsys)
    assert code == 0, [result for result in results if result["verdict"] not in ("pass", "not applicable")]
    assert counts["cases_passed"] >= 15, counts
