"""hardware.toml: what is wrong in it is told; a board behind ports of this machine passes what emulated ones pass."""

import ast
import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import serial
from patrolink.core import boards
from patrolink.core.errors import DeadlineError, DeviceError, UserError

from tests.hil import hardware
from tests.hil.hardware import SwitchSpec
from tests.hil.lock import Lock
from tests.hil.switch import Switch
from tests.support.paths import ROOT
from tests.support.polling import TIMEOUT_S

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


def written(folder: Path, text: str) -> Path:
    path = folder / "hardware.toml"
    path.write_text(text)
    return path


def pytest_run(folder: Path, *arguments: str, timeout_s: float = 250) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q"]
    command += ["--artefacts", str(folder / "artefacts"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


# --- a board behind ports -------------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path):
    """The folder of a board that is somebody else's process: ports and a command are all there is of it."""
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


def real(folder: Path) -> str:
    command = {
        name: json.dumps([sys.executable, str(HIL / "emulated_lab.py"), str(folder), name])
        for name in ("power", "sos", "off")
    }
    return REAL.format(folder=folder, **command)


def board_said(log: Path) -> bytes:
    """What the board said on a wire: the log has a line a piece, and a piece ends anywhere."""
    pieces = re.findall(r"^ *[0-9.]+ board: (b.*)$", log.read_text(encoding="utf-8"), re.MULTILINE)
    return b"".join(ast.literal_eval(piece) for piece in pieces)


@pytest.mark.timeout(480)
def test_a_board_behind_ports_passes_the_tests_of_the_emulated_ones(lab, tmp_path):
    path = written(tmp_path, real(lab))
    tests = [f"{HIL}/test_patrol.py", f"{HIL}/test_board_console.py", "-rA"]
    done = pytest_run(tmp_path, "--hardware", str(path), *tests, timeout_s=460)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "test_patrol.py::test_a_patrol_with_an_sos_and_a_power_cut",
        "test_patrol.py::test_a_configuration_that_cannot_be_used_is_told_on_the_console",
        "test_board_console.py::test_each_life_begins_on_the_console",
        "test_board_console.py::test_ctrl_c_ends_the_agent_and_gives_the_repl",
        "test_board_console.py::test_mpremote_puts_a_file_on_the_board_that_outlives_its_power",
    ):
        assert f"PASSED tests/hil/{name}[bench-1]" in done.stdout, done.stdout
    logs = tmp_path / "artefacts" / "test_patrol-test_a_patrol_with_an_sos_and_a_power_cut_bench-1"
    assert "device: ready, boot 2" in (logs / "console.log").read_text(errors="replace")
    assert (logs / "gps.log").read_bytes().startswith(b"$GNRMC") and b"AT+QIOPEN" in board_said(logs / "modem.log")
    assert "rig-" in (logs / "broker.log").read_text()


# --- hardware.toml --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "board: is missing"),
        ('[[board]]\nborad = "unix"', "board.0.borad: unknown key; did you mean 'board'?"),
        ('[[board]]\nboard = "unixx"', "board.0.board: .*boards are .*unix"),
        ('[[board]]\nboard = "unix"\ngps = { port = "/x", uart = 1 }', "gps without console"),
        ('[[board]]\nboard = "mps2_an385"\nconsole = "A1"', "needs power and gps, too"),
        ('[[board]]\nboard = "unix"\n[[board]]\nboard = "unix"', "board.1.name: 'unix' is there already"),
        (REAL.format(folder="/x", power="[]", sos='["x"]', off='["x"]'), "board.0.power.command: .*at least 1"),
        (REAL.format(folder="/x", power=1, sos='["x"]', off='["x"]'), "board.0.power.command: .*but it is 1"),
        ("[[board]\n", "not TOML"),
    ],
)
def test_what_is_wrong_in_hardware_toml_is_told_by_key(tmp_path, text, says):
    with pytest.raises(UserError, match=f"(?s)hardware.toml: {says}|hardware.toml: board.0: .*{says}"):
        hardware.load(written(tmp_path, text))


def test_a_run_with_a_wrong_hardware_toml_ends_with_its_message(tmp_path):
    done = pytest_run(tmp_path, "--hardware", str(tmp_path / "none.toml"), f"{HIL}/test_patrol.py")
    assert done.returncode == 4 and "none.toml: No such file" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_port_that_is_not_there_is_told_with_those_that_are(monkeypatch):
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
    with pytest.raises(UserError, match="console: /dev/nowhere is not there"):
        hardware.resolve("/dev/nowhere", "console")


# --- power and locks ------------------------------------------------------------------------------------------------


def test_a_switch_runs_its_command_and_tells_when_that_fails(tmp_path):
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


def test_a_line_of_the_console_is_a_switch():
    class Port(serial.Serial):
        rts = None

    port = Port()
    plain, inverted = (Switch("power", SwitchSpec(line="rts", inverted=way), port) for way in (False, True))
    for switch, on, level in (
        (plain, True, True),
        (plain, False, False),
        (inverted, True, False),
        (inverted, False, True),
    ):
        switch.set(on)
        assert port.rts is level


def test_a_board_is_one_runs_at_a_time_and_the_other_is_told_whose(tmp_path):
    name = f"test-{tmp_path.name}"
    hold = (
        f"import sys; from tests.hil.lock import Lock; it = Lock({name!r}); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None and other.stdout is not None
    with contextlib.ExitStack() as stack:
        stack.callback(other.stdout.close)
        stack.callback(other.kill)
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DeadlineError, match=f"{name} is in use by process {other.pid} of "):
            Lock(name, wait_s=0.3)
        other.stdin.close()  # it ends, and so does its hold
        Lock(name, wait_s=20).close()
        other.wait(20)
