"""`patrolink emulate` with one or many boards: its counts, and its end when a part of it dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from patrolink.cli import main
from patrolink.core import boards
from patrolink.core.decoder import DecoderStats
from patrolink.emulator.scenarios import fleet
from patrolink.emulator.scenarios.patrol import Patrol

from tests.support.json_lines import records, summary
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.processes import restore_stop_signals

EMULATE = [sys.executable, "-m", "patrolink", "emulate", "--quiet", "--json"]


def children(pid: int) -> dict[int, str]:
    """Return the child processes of a run with their command lines."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(p): Path(f"/proc/{p}/cmdline").read_text().replace("\0", " ") for p in pids}


def patrolling(run: subprocess.Popen, out: Path, *devices: str) -> dict[int, str]:
    """Wait until all these devices are ready, and return the processes of the run."""
    logs = [out / device / "device" / "console.log" for device in devices]
    wait_until(lambda: run.poll() is None and all(log.exists() and "ready" in log.read_text() for log in logs))
    return children(run.pid)


@pytest.mark.parametrize(
    ("first", "count", "names"),
    [
        ("emulated-1", 1, ["emulated-1"]),
        ("a", 1, ["a"]),
        ("a", 2, ["a1", "a2"]),
        ("car-009", 3, ["car-009", "car-010", "car-011"]),
        ("7", 2, ["7", "8"]),
    ],
)
def test_fleet_device_ids(first, count, names):
    assert fleet.names(first, count) == names


@pytest.mark.parametrize("board", ["linux", "unix", "mps2_an385"])
def test_boards_run_concurrently(board, tmp_path, capsys):
    missing = boards.find(board).missing_packages()
    if missing:
        pytest.skip(f"{board}: apt-get install {' '.join(missing)}")
    command = ["emulate", "--board", board, "--count", "3", "--speed", "10", "--fixes", "90", "--batch", "30"]
    assert main([*command, "--device", "car-9", "--out", str(tmp_path), "--quiet", "--json"]) == 0
    out = capsys.readouterr().out
    names = ["car-9", "car-10", "car-11"]
    assert sorted(patrol["device"] for patrol in records(out, "patrol")) == sorted(names)
    total = summary(out)
    assert total["boards"] == 3 and total["fixes_sent"] == total["fixes_decoded"] == 270
    assert total["fixes_lost"] == total["fixes_duplicated"] == total["uart_overruns"] == total["failed"] == 0
    for name in names:
        assert json.loads((tmp_path / name / "summary.json").read_text())["fixes_decoded"] == 90
        assert main(["decode", str(tmp_path / name / "patrol.plcap"), "--format", "csv"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 91


def test_stop_signal_during_the_start_of_a_board_closes_all_boards(tmp_path, monkeypatch, capsys):
    started, closed = [], []

    class InterruptedPatrol(Patrol):
        def __init__(self, plan, device, *arguments):
            super().__init__(plan, device, *arguments)
            started.append(device)
            if len(started) == 2:
                signal.raise_signal(signal.SIGTERM)

        def close(self):
            super().close()
            closed.append(self.name)

    monkeypatch.setattr(fleet, "Patrol", InterruptedPatrol)
    command = ["emulate", "--board", "linux", "--count", "3", "--out", str(tmp_path), "--json"]
    assert main(command) == 128 + signal.SIGTERM
    assert started == ["emulated-1", "emulated-2"] and sorted(closed) == started
    output = capsys.readouterr()
    assert summary(output.out)["boards"] == 0
    assert (
        output.err.count("stopped before the end: ") == 3
        and "emulated-3: stopped before the end: not started" in output.err
    )


def test_failed_board_is_named_and_ends_alone(tmp_path):
    command = [*EMULATE, "--board", "linux", "--count", "2", "--speed", "20", "--fixes", "120", "--out", str(tmp_path)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = patrolling(run, tmp_path, "emulated-1", "emulated-2")
    os.kill(next(pid for pid, line in started.items() if "emulated-2" in line), signal.SIGKILL)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 3 and summary(out)["failed"] == 1
    assert [(error["device"], error["exit_code"]) for error in records(out, "error")] == [("emulated-2", 3)]
    assert "error: emulated-2: the device ended with status -9" in err and "device: ready" in err
    (patrol,) = records(out, "patrol")
    assert patrol["device"] == "emulated-1" and patrol["fixes_decoded"] == 120


@pytest.mark.parametrize(
    ("board", "end"),
    [
        *[("linux", end) for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)],
        # The run handles the signals that it can handle alike, whatever its boards are.
        *[("mps2_an385", end) for end in (signal.SIGTERM, signal.SIGKILL)],
    ],
)
def test_ended_run_leaves_no_process(board, end, tmp_path):
    missing = boards.find(board).missing_packages() + ([] if shutil.which("setpriv") else ["util-linux"])
    if missing:
        pytest.skip(f"apt-get install {' '.join(missing)}")
    command = [*EMULATE, "--board", board, "--count", "2", "--out", str(tmp_path)]
    run = subprocess.Popen(command, preexec_fn=restore_stop_signals)
    started = patrolling(run, tmp_path, "emulated-1", "emulated-2")
    assert len(started) == 3  # a broker and two boards
    run.send_signal(end)
    code = {signal.SIGINT: 130, signal.SIGKILL: -end}.get(end, 128 + end)
    assert run.wait(TIMEOUT_S) == code
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def test_second_run_in_a_folder_is_refused(tmp_path, capsys):
    run = subprocess.Popen([*EMULATE, "--board", "linux", "--out", str(tmp_path)])
    wait_until(lambda: (tmp_path / "device" / "console.log").exists())
    assert main(["emulate", "--board", "linux", "--out", str(tmp_path), "--quiet"]) == 2
    assert "another run uses this folder; name another one with --out" in capsys.readouterr().err
    assert run.poll() is None
    run.terminate()
    run.wait(TIMEOUT_S)


def test_resent_frame_does_not_replace_a_frame_in_flight():
    patrol = object.__new__(Patrol)
    patrol.summary, patrol._device_summary, patrol._leaving, patrol._deadline = {}, {"published": 2}, True, float("inf")
    patrol._summarise = lambda: {"done": True}
    for frames, duplicates, done in ((0, 0, False), (1, 0, False), (2, 1, False), (3, 1, True)):
        patrol.decoder = SimpleNamespace(stats=DecoderStats(frames=frames, duplicates=duplicates))
        patrol.step()
        assert bool(patrol.summary) is done


def test_bad_arguments_are_refused(capsys):
    for options, message in (
        (["--count", "0"], "--count must be from 1 to 64"),
        (["--count", "2", "--device", "a" * 32], "its number included"),
        (["--count", "2", "--hours", "1"], "a --count of 1"),
    ):
        assert main(["emulate", *options]) == 2
        assert message in capsys.readouterr().err
