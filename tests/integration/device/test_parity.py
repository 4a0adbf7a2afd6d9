"""The unit tests also pass on MicroPython, and all of them run there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent.parent


@pytest.mark.long(80)
@pytest.mark.timeout(1000)
@pytest.mark.unchanged_inputs(
    *("build/device-lib", "device", "protocol/generated", "protocol/patrolink_protocol", "protocol/vectors"),
    *("tests/parity.py", "tests/unit"),
    programs=("micropython",),
)
def test_unit_tests_on_micropython():
    process = subprocess.run([sys.executable, str(TESTS / "parity.py")], capture_output=True, text=True, timeout=900)
    if process.returncode == 4:
        pytest.skip("no micropython: " + process.stderr.strip())
    assert process.returncode == 0, process.stdout + process.stderr
    passed = int(re.search(r"(\d+) passed, 0 failed", process.stdout).group(1))
    defined = sum(
        len(re.findall(r"^def test_", path.read_text(encoding="utf-8"), flags=re.M))
        for path in (TESTS / "unit").glob("test_*.py")
    )
    assert passed == defined
    print(f"{passed} unit tests on MicroPython")
