"""Every command in README.md runs without an error, in the order of the page."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patrolink.core import boards, resources
from patrolink.core.errors import DeviceError

ROOT = Path(__file__).resolve().parent.parent.parent.parent
# `make test` runs this file; the demo has a separate test.
EXCLUDED = {"make test", "make demo"}


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line and line not in EXCLUDED]


def missing_requirement(command: str) -> str:
    """Return the requirement of a command that this machine does not have, or an empty string."""
    if "unix" in command or "micropython" in command or command == "make demo":
        try:
            resources.interpreter("micropython")
        except DeviceError as e:
            return str(e)
    needs_video = command.startswith("patrolink incident") or "build/incident" in command or command == "make demo"
    if needs_video and not (ROOT / "build" / "media" / "bikes.mp4").exists():
        return "no video for the camera; run `make media`"
    board = re.search(r"--board (\w+)", command)
    if board and boards.find(board[1]).missing_packages():
        return f"{board[1]}: apt-get install {' '.join(boards.find(board[1]).missing_packages())}"
    program = command.split()[0]
    return f"no {program}" if program in ("cc", "tshark") and shutil.which(program) is None else ""


def run_command(command: str) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"


@pytest.mark.timeout(450)
def test_demo_loses_no_fix_and_exports_a_valid_clip():
    if missing_requirement("make demo"):
        pytest.skip(missing_requirement("make demo"))
    run_command("make demo")
    summary = json.loads((ROOT / "build" / "demo" / "summary.json").read_text())
    assert summary["fixes_sent"] == summary["fixes_decoded"] == 900 and summary["fixes_lost"] == 0
    for name in ("patrol.plcap", "track.geojson", "track.png", "map.html"):
        assert (ROOT / "build" / "demo" / name).stat().st_size > 1000
    sos = json.loads((ROOT / "build" / "demo" / "sos" / "incident.json").read_text())
    assert sos["verdict"] == "valid" and sos["before_s"] >= 8 and sos["lost"] == 0, sos
    for name in sos["exported"]:
        assert (ROOT / "build" / "demo" / "sos" / "export" / name).stat().st_size > 100


@pytest.mark.timeout(900)
def test_every_command_runs():
    """The order matters because some commands read the output of earlier ones."""
    assert len(commands()) > 10
    missing = {missing_requirement(command) for command in commands()} - {""}
    shutil.rmtree(ROOT / "build" / "incident", ignore_errors=True)  # an export never replaces files
    for command in commands():
        if not missing_requirement(command):
            run_command(command)
    if missing:
        pytest.skip("commands not run: " + ", ".join(sorted(missing)))
