"""A test on a faulty board fails, its report includes the console, and no process is left."""

import re
import subprocess
import time

import pytest
from patrolink.core import boards

from tests.hil import health
from tests.hil.test_hardware import HIL, run_pytest

ALL = ["unix", "mps2_an385"]
FIRMWARE = ["mps2_an385"]
TIMEOUT_TEST = "hangs_until_test_timeout"


@pytest.mark.parametrize(
    "test, name, message, console",
    [
        *[("hangs", board, "AssertionError", "device: ready") for board in ALL],
        *[(TIMEOUT_TEST, board, "Timeout", "device: ready") for board in ALL],
        *[("panics", board, "Traceback on|the device ended with|the agent has ended", "Traceback") for board in ALL],
        *[("faults", board, "FAULT on the console", "after fault") for board in FIRMWARE],
        *[("has_full_disk", board, "AssertionError", r'"dropped": [1-9]') for board in FIRMWARE],
        *[("prints_random_bytes", board, "AssertionError", "sys.stdout.buffer") for board in FIRMWARE],
    ],
)
def test_faulty_board_fails_its_test_with_console_and_no_leftover_process(tmp_path, test, name, message, console):
    if missing := boards.find(name).missing_packages():
        pytest.skip(f"{name}: apt-get install {' '.join(missing)}")
    options = ["--basetemp", str(tmp_path / "base"), "--timeout", "30" if test == TIMEOUT_TEST else "200"]
    done = run_pytest(tmp_path, f"{HIL}/bad_boards.py", "-k", f"test_board_{test}[{name}]", *options)
    output = done.stdout + done.stderr
    assert done.returncode == 1 and re.search(r"^1 failed|^1 passed, .*1 error", output, re.M), output
    assert re.search(message, output), output
    console_section = output[output.index("console (") :]
    assert re.search(console, console_section), output
    assert health.leftover_processes(tmp_path) == []


def test_leftover_process_is_named(tmp_path):
    process = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 10
        # Between fork and exec the command line of the process is empty.
        while (lines := health.leftover_processes(tmp_path)) != [f"process {process.pid} still runs: sleep 60"]:
            assert time.monotonic() < deadline, lines
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("device: ready, boot 1\r\n", []),
        ('Traceback (most recent call last):\r\n  File "<stdin>", line 1\r\ndevice: ready', []),
        (
            'device: ready\r\nTraceback (most recent call last):\r\n  File "start.py", line 9',
            ["Traceback on the console"],
        ),
        (
            "device: ready\r\nx, after watchdog\r\ndevice: ready",
            ["unplanned resets: 2 boots, expected 1 after watchdog"],
        ),
        ("patrolink on x\r\n", ["unplanned resets: 0 boots, expected 1"]),
        ('device: ready\r\n{"board": {"overruns": 3, "violations": 0}}\r\n', ["3 bytes lost on UARTs"]),
        ('device: ready\r\n{"board": {"overruns": 0, "violations": 1}}\r\n', ["1 violations of NOR flash rules"]),
    ],
)
def test_problems_are_detected_on_the_console(text, expected):
    assert health.problems(text, boots=1) == expected
