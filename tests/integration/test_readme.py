"""Every command that README shows runs, in README's order."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# `make test` is what runs this.
OWN = {"make test"}


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line and line not in OWN]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("command", commands())
def test_command_runs(command):
    from patrolink import home

    if "unix" in command or "micropython" in command or command == "make demo":
        try:
            home.interpreter("micropython")
        except Exception as e:
            pytest.skip(str(e))
    program = command.split()[0]
    if program in ("cc", "tshark") and shutil.which(program) is None:
        pytest.skip(f"no {program}")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if command == "make demo":
        summary = json.loads((ROOT / "build" / "demo" / "summary.json").read_text())
        assert summary["fixes_sent"] == summary["fixes_decoded"] == 900 and summary["fixes_lost"] == 0
        for name in ("patrol.plcap", "track.geojson", "track.png", "map.html"):
            assert (ROOT / "build" / "demo" / name).stat().st_size > 1000
