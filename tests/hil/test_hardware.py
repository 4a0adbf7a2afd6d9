"""hardware.toml: errors are reported by key; a board connected through ports passes the tests of emulated boards."""

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import serial
from patrolink.core import boards
from patrolink.core.board_lock import Lock
from patrolink.core.errors import DeadlineError, DeviceError, UserError

from tests.hil import hardware
from tests.hil.hardware import SwitchSpec
from tests.hil.switch import Switch
from tests.support.paths import ROOT
from tests.support.polling import TIMEOUT_S
from tests.support.unprivileged import drop_capabilities

HIL = ROOT / "tests" / "hil"
REAL = """
[[board]]
board = "mps2_an385"
name = "bench-1"
console = "{folder}/console"
power = {{ command = {power} }}
gps = {{ port = "{folder}/gps", uart = 1 }}
modem = {{ port = "{folder}/modem", uart = 2 }}
config = {{ watchdog = 60000, buttons = {{ sos = 0, off = 1 }} }}
[board.buttons]
sos = {{ command = {sos} }}
off = {{ command = {off} }}
"""


def write_toml(folder: Path, text: str) -> Path:
    path = folder / "hardware.toml"
    path.write_text(text)
    return path


def run_pytest(folder: Path, *arguments: str, timeout_s: float = 250) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q"]
    command += ["--artefacts", str(folder / "artefacts"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


# --- a board connected through ports --------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path):
    """Start a board in another process, reachable by ports and a command only. Returns its folder."""
    if missing := boards.find("mps2_an385").missing_packages():
        pytest.skip(f"mps2_an385: apt-get install {' '.join(missing)}")
    folder = tmp_path / "lab"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(HIL / "emulated_lab.py"), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield folder
    finally:
        process.stdin.close()
        process.wait(TIMEOUT_S)
        process.stdout.close()


def hardware_toml(folder: Path) -> str:
    command = {
        name: json.dumps([sys.executable, str(HIL / "emulated_lab.py"), str(folder), name])
        for name in ("power", "sos", "off")
    }
    return REAL.format(folder=folder, **command)


def board_output(log: Path) -> bytes:
    """Return the data that the board sent, from a log with one line for each chunk."""
    chunks = re.findall(r"^ *[0-9.]+ board: (b.*)$", log.read_text(encoding="utf-8"), re.MULTILINE)
    return b"".join(ast.literal_eval(chunk) for chunk in chunks)


@pytest.mark.long(60)
@pytest.mark.timeout(480)
def test_board_connected_through_ports_passes_tests_of_emulated_boards(lab, tmp_path):
    path = write_toml(tmp_path, hardware_toml(lab))
    tests = [f"{HIL}/test_patrol.py", f"{HIL}/test_board_console.py", "-rA"]
    done = run_pytest(tmp_path, "--hardware", str(path), *tests, timeout_s=460)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "test_patrol.py::test_patrol_with_sos_and_power_cut",
        "test_patrol.py::test_invalid_configuration_is_reported_on_the_console",
        "test_board_console.py::test_each_boot_is_reported_on_the_console",
        "test_board_console.py::test_ctrl_c_ends_the_agent_and_starts_the_repl",
        "test_board_console.py::test_file_written_by_mpremote_survives_power_cycle",
    ):
        assert f"PASSED tests/hil/{name}[bench-1]" in done.stdout, done.stdout
    logs = tmp_path / "artefacts" / "test_patrol-test_patrol_with_sos_and_power_cut_bench-1"
    assert "device: ready, boot 2" in (logs / "console.log").read_text(errors="replace")
    assert (logs / "gps.log").read_bytes().startswith(b"$GNRMC") and b"AT+QIOPEN" in board_output(logs / "modem.log")
    assert "rig-" in (logs / "broker.log").read_text()


# --- hardware.toml --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "board: is missing"),
        ('[[board]]\nborad = "unix"', "board.0.borad: unknown key; did you mean 'board'?"),
        ('[[board]]\nboard = "unixx"', "board.0.board: .*boards are .*unix"),
        ('[[board]]\nboard = "unix"\ngps = { port = "/x", uart = 1 }', "gps without console"),
        ('[[board]]\nboard = "mps2_an385"\nconsole = "A1"', "needs power and gps"),
        ('[[board]]\nboard = "unix"\n[[board]]\nboard = "unix"', "board.1.name: duplicate name 'unix'"),
        (REAL.format(folder="/x", power="[]", sos='["x"]', off='["x"]'), "board.0.power.command: .*at least 1"),
        (REAL.format(folder="/x", power=1, sos='["x"]', off='["x"]'), "board.0.power.command: .*but it is 1"),
        ("[[board]\n", "not TOML"),
    ],
)
def test_error_in_hardware_toml_is_reported_by_key(tmp_path, text, message):
    with pytest.raises(UserError, match=f"(?s)hardware.toml: {message}|hardware.toml: board.0: .*{message}"):
        hardware.load(write_toml(tmp_path, text))


def test_missing_hardware_toml_ends_the_run_with_a_message(tmp_path):
    done = run_pytest(tmp_path, "--hardware", str(tmp_path / "none.toml"), f"{HIL}/test_patrol.py")
    assert done.returncode == 4 and "none.toml: No such file" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_missing_port_is_reported_with_available_ports(monkeypatch):
    class Port:
        def __init__(self, device, serial_number):
            self.device, self.serial_number = device, serial_number

    ports = [Port("/dev/ttyUSB0", "A1"), Port("/dev/ttyUSB1", "B2"), Port("/dev/ttyUSB2", "B2")]
    monkeypatch.setattr(hardware.list_ports, "comports", lambda: ports)
    assert hardware.resolve("A1", "console") == "/dev/ttyUSB0"
    with pytest.raises(UserError, match="console: no port has USB serial number C3.*A1 .*/dev/ttyUSB0"):
        hardware.resolve("C3", "console")
    with pytest.raises(UserError, match="console: /dev/ttyUSB1, /dev/ttyUSB2 all have"):
        hardware.resolve("B2", "console")
    with pytest.raises(UserError, match="console: /dev/nowhere does not exist"):
        hardware.resolve("/dev/nowhere", "console")


# --- power and locks ------------------------------------------------------------------------------------------------


def test_switch_runs_its_command_and_reports_failure(tmp_path):
    log = tmp_path / "log"
    script = ["sh", "-c", f'echo "$0" >>{log}']
    switch = Switch("power", SwitchSpec(command=script), serial.Serial())
    switch.cycle()
    assert log.read_text() == "off\non\n"
    bad = Switch("bench-1: power", SwitchSpec(command=["sh", "-c", "echo no hub 1-1 >&2; exit 3"]), serial.Serial())
    with pytest.raises(DeviceError, match="bench-1: power: .* ended with 3: no hub 1-1"):
        bad.on()
    with pytest.raises(DeviceError, match="not-a-command"):
        Switch("power", SwitchSpec(command=["/not-a-command"]), serial.Serial()).on()


def test_switch_operates_a_line_of_the_console():
    class Port(serial.Serial):
        rts = None

    port = Port()
    plain, inverted = (Switch("power", SwitchSpec(line="rts", inverted=value), port) for value in (False, True))
    for switch, on, level in (
        (plain, True, True),
        (plain, False, False),
        (inverted, True, False),
        (inverted, False, True),
    ):
        switch.set(on)
        assert port.rts is level


@pytest.mark.parametrize("obstacle", ["link", "folder"])
def test_lock_is_taken_beside_what_another_user_has_put_in_its_place(obstacle, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "patrolink-board-b.lock"
    path.symlink_to(tmp_path / "x") if obstacle == "link" else path.mkdir()
    lock = Lock("b", wait_s=0.1)
    with pytest.raises(DeadlineError, match=f"b is in use by process {os.getpid()} of "):
        Lock("b", wait_s=0.1)
    lock.close()
    Lock("b", wait_s=0.1).close()
    assert not (tmp_path / "x").exists()


LOCKS = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from patrolink.core.board_lock import Lock
lock = Lock("b", wait_s=0.1)
lock.close()
print("locked")
"""


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666, 0])
def test_lock_file_of_another_user_is_no_obstacle(mode, tmp_path):
    """Whatever its mode is: it is locked if it can be opened, else a file of this user's own."""
    tmp_path.chmod(0o1777)
    path = tmp_path / "patrolink-board-b.lock"
    path.touch()
    path.chmod(mode & 0o444 if os.geteuid() else mode)
    command = [sys.executable, "-c", LOCKS, str(tmp_path)]
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        preexec_fn=None if os.geteuid() else drop_capabilities,
    )
    assert done.stdout == "locked\n", done.stderr


def test_board_is_locked_for_one_run_and_error_names_the_holder(tmp_path):
    name = f"test-{tmp_path.name}"
    script = (
        f"import sys; from patrolink.core.board_lock import Lock; lock = Lock({name!r}); print('held', flush=True); "
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None and other.stdout is not None
    with contextlib.ExitStack() as stack:
        stack.callback(other.stdout.close)
        stack.callback(other.kill)
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DeadlineError, match=f"{name} is in use by process {other.pid} of "):
            Lock(name, wait_s=0.3)
        other.stdin.close()  # the process ends, which releases its lock
        Lock(name, wait_s=TIMEOUT_S).close()
        other.wait(TIMEOUT_S)
