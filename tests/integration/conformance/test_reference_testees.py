"""Our own agent as a testee of the device tier."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from patrolink.cli import main
from patrolink.conformance import suite
from patrolink.conformance.case import DEVICE
from patrolink.core import boards
from patrolink.emulator import testee
from patrolink.emulator.testee.__main__ import main as run_agent

from tests.support.json_lines import records, summary
from tests.support.paths import ROOT

TESTEE = [sys.executable, "-m", testee.__name__]
REAL_TIME_CASES = (
    "a command is answered once, with its id",
    "a command that is repeated is obeyed once",
    "hello is the first frame after each start, with a higher boot number",
)


@pytest.fixture
def board(request, monkeypatch, tmp_path):
    """The name of a board; the working folder has the folder of its testee, with a key."""
    if missing := boards.find(request.param).missing_packages():
        pytest.skip(f"{request.param}: apt-get install {' '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    assert run_agent(["init", request.param, f"build/testee/{request.param}"]) == 0
    return request.param


def validate(board, profile, target, capsys, *options):
    """Run the device tier on the agent of a board; return exit code, summary and results."""
    files = [
        "--profile",
        str(ROOT / "boards" / board / profile),
        "--keys",
        f"build/testee/{board}/keys.toml",
    ]
    code = main(["validate", target, "--tier", DEVICE, *files, "--json", *options])
    output = capsys.readouterr().out
    return code, summary(output), records(output, "case_result")


@pytest.mark.long(40)
@pytest.mark.parametrize("board", ["linux", "mps2_an385"], indirect=True)
def test_every_case_passes_on_a_virtual_clock(board, capsys):
    target = f"exec:{shlex.join([*TESTEE, 'pipe', board, f'build/testee/{board}'])}"
    code, counts, results = validate(board, "conformance.toml", target, capsys)
    others = [result for result in results if result["case_verdict"] not in ("pass", "not applicable")]
    # Only `linux` has images for the kit: the cases of updates are skipped on the other boards.
    wrong = [result for result in others if board == "linux" or not result["case"].startswith("PL-FIRMWARE-")]
    assert wrong == [] and {result["case_verdict"] for result in others} <= {"skipped"}
    assert code == (1 if others else 0)
    assert counts["cases_passed"] >= 15, counts


@pytest.mark.long(30)
@pytest.mark.parametrize("board", ["unix"], indirect=True)
def test_cases_pass_at_a_broker(board, capsys):
    program = [*TESTEE, "broker", board, f"build/testee/{board}"]
    options = [word for title in REAL_TIME_CASES for word in ("--replay", suite.ids_by_subject()[title])]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            target = process.stdout.readline().strip()
            code, counts, results = validate(board, "conformance-broker.toml", target, capsys, *options)
        finally:
            process.terminate()
    assert code == 0 and counts["cases_passed"] == len(REAL_TIME_CASES), results
    assert process.returncode == 0
