"""A test on a faulty board fails, its report includes the console, and no process is left."""

import json
import re
import subprocess
import time

import pytest
from patrolink.core import boards
from patrolink.emulator.boards import qemu

from tests.hil import health
from tests.hil.test_hardware import HIL, run_pytest
from tests.support.polling import TIMEOUT_S

# Test of bad_boards.py -> its boards, the message of its failure, and what its report shows of the console
FAULTS = {
    "hangs": (("unix", "mps2_an385"), "AssertionError", "device: ready"),
    "hangs_until_test_timeout": (("unix", "mps2_an385"), "Timeout", "device: ready"),
    "panics": (
        ("unix", "mps2_an385"),
        "Traceback on|the device ended with|the agent has ended",
        "Traceback",
    ),
    "faults": (("mps2_an385",), "FAULT on the console", "after fault"),
    "has_full_disk": (("mps2_an385",), "AssertionError", r'"dropped": [1-9]'),
    "prints_random_bytes": (("mps2_an385",), "AssertionError", "sys.stdout.buffer"),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Run all tests on faulty boards in one session. Yields test and board -> text of the failure."""
    folder = tmp_path_factory.mktemp("boards")
    log = folder / "report.jsonl"
    if not boards.find("mps2_an385").missing_packages():
        qemu.build_image(boards.find("mps2_an385"))  # not within the limit of a test
    options = ["--basetemp", str(folder / "base"), "--report-log", str(log), "-k", "test_board_"]
    done = run_pytest(folder, f"{HIL}/bad_boards.py", *options, timeout_s=550)
    assert done.returncode == 1, done.stdout + done.stderr
    texts: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        report = json.loads(line)
        if report.get("outcome") == "failed":
            parts = [json.dumps(report["longrepr"], ensure_ascii=False), *map("\n".join, report["sections"])]
            name = report["nodeid"].rpartition("test_board_")[2]
            texts[name] = texts.get(name, "") + "\n".join(parts)
    yield texts
    assert health.leftover_processes(folder) == []


@pytest.mark.long(70)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("test, name", [(test, name) for test, (names, *_) in FAULTS.items() for name in names])
def test_faulty_board_fails_its_test_with_console(failures, test, name):
    if missing := boards.find(name).missing_packages():
        pytest.skip(f"{name}: apt-get install {' '.join(missing)}")
    _, message, console = FAULTS[test]
    text = failures[f"{test}[{name}]"]
    assert re.search(message, text), text
    assert re.search(console, text[text.index("console (") :]), text


def test_leftover_process_is_named(tmp_path):
    process = subprocess.Popen(["sleep", "600"], cwd=tmp_path)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        # Between fork and exec the command line of the process is empty.
        while (lines := health.leftover_processes(tmp_path)) != [f"process {process.pid} still runs: sleep 600"]:
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
