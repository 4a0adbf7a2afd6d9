"""A board that hangs, panics, fills its disk or speaks rubbish fails its test, with its console, and leaves nothing."""

import re
import subprocess
import time

import pytest
from patrolink.core import boards

from tests.hil import health
from tests.hil.test_hardware import HIL, pytest_run

BOTH = ["unix", "mps2_an385"]
FIRMWARE = ["mps2_an385"]
OUT_OF_TIME = "hangs_until_the_clock_of_the_test_has_run_out"


@pytest.mark.parametrize(
    "test, name, says, console",
    [
        *[("hangs", board, "AssertionError", "device: ready") for board in BOTH],
        *[(OUT_OF_TIME, board, "Timeout", "device: ready") for board in BOTH],
        *[("panics", board, "Traceback on|the device ended with|the agent has ended", "Traceback") for board in BOTH],
        *[("faults", board, "FAULT on the console", "after fault") for board in FIRMWARE],
        *[("fills_its_disk", board, "AssertionError", r'"dropped": [1-9]') for board in FIRMWARE],
        *[("speaks_rubbish", board, "AssertionError", "sys.stdout.buffer") for board in FIRMWARE],
    ],
)
def test_a_bad_board_fails_its_test_with_its_console_and_leaves_nothing_behind(tmp_path, test, name, says, console):
    if missing := boards.find(name).missing_packages():
        pytest.skip(f"{name}: apt-get install {' '.join(missing)}")
    options = ["--basetemp", str(tmp_path / "base"), "--timeout", "30" if test == OUT_OF_TIME else "200"]
    done = pytest_run(tmp_path, f"{HIL}/bad_boards.py", "-k", f"test_it_{test}[{name}]", *options)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and re.search(r"^1 failed|^1 passed, .*1 error", said, re.M), said
    assert re.search(says, said), said
    told = said[said.index("console (") :]
    assert re.search(console, told), said
    assert health.left_behind(tmp_path) == []


def test_a_process_left_behind_is_named(tmp_path):
    process = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 10
        # Between fork and exec it is there without a command.
        while (found := health.left_behind(tmp_path)) != [f"process {process.pid} is left behind: sleep 60"]:
            assert time.monotonic() < deadline, found
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "said, wrong",
    [
        ("device: ready, boot 1\r\n", []),
        ('Traceback (most recent call last):\r\n  File "<stdin>", line 1\r\ndevice: ready', []),
        (
            'device: ready\r\nTraceback (most recent call last):\r\n  File "start.py", line 9',
            ["Traceback on the console"],
        ),
        (
            "device: ready\r\nx, after watchdog\r\ndevice: ready",
            ["resets that nobody planned: 2 lives of 1 after watchdog"],
        ),
        ("patrolink on x\r\n", ["resets that nobody planned: 0 lives of 1"]),
        ('device: ready\r\n{"board": {"overruns": 3, "violations": 0}}\r\n', ["3 overruns: bytes lost on UARTs"]),
        ('device: ready\r\n{"board": {"overruns": 0, "violations": 1}}\r\n', ["1 violations: of NOR flash"]),
    ],
)
def test_a_board_that_was_not_well_is_found_out_by_what_it_says(said, wrong):
    assert health.problems(said, boots=1) == wrong
