"""Progress and notes on standard error: a bar on a terminal, lines elsewhere, nothing with -q."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest
from patrolink.cli import main
from patrolink.core import notes, progress
from patrolink.core.progress import Progress
from patrolink.hub import supervisor

from tests.support.json_lines import records
from tests.support.polling import TIMEOUT_S, wait_until

LABEL = "verify the clips of 巡逻 vest-07 in the site's folder"
# A job that ends when a bar must have been shown, with a note in between.
JOB = f"""
import sys, time
from patrolink.cli import main
from patrolink.core import notes, progress
progress._BAR_AFTER_S = 0.1
with progress.Progress({LABEL!r}, 400, "clips") as bar:
    for _ in range(12):
        bar.advance(10)
        time.sleep(0.1)
    notes.note("a note while the bar is shown")
    print("data", flush=True)
    time.sleep(0.3)
"""


@pytest.fixture(autouse=True)
def not_quiet():
    yield
    notes.set_quiet(False)


def on_terminal(columns: int, **environment: str) -> str:
    """Run the job with a terminal as standard error, and return what it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {**os.environ, "TERM": "xterm", **environment}
    variables.pop("COLUMNS", None)
    process = subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE, stderr=slave, env=variables)
    os.close(slave)
    written = b""
    try:
        while data := os.read(master, 65536):
            written += data
    except OSError:  # Linux: the process has closed its end
        pass
    out, _ = process.communicate(timeout=TIMEOUT_S)
    os.close(master)
    assert process.returncode == 0 and out == b"data\n"  # the bar must not redirect data
    return written.decode()


def test_terminal_shows_a_bar_and_removes_it():
    text = on_terminal(120)
    assert LABEL in text and "%" in text and "━" in text and "a note while the bar is shown" in text
    assert text.rstrip().endswith("\x1b[2K")  # the line of the bar is erased at the end


def test_narrow_terminal_wraps_the_label_and_cuts_nothing():
    text = on_terminal(40)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "…" not in plain
    frame = re.split(r"\r", plain)[3:40]
    letters = "".join("".join(frame).split())
    for word in ("verify", "the", "clips", "巡逻", "vest-07", "folder"):
        assert word in letters
    assert all(len(line.rstrip()) <= 40 for line in plain.replace("\r", "\n").split("\n"))


def test_no_color_is_obeyed():
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", on_terminal(80, NO_COLOR=""))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", on_terminal(80, NO_COLOR="1"))


def test_dumb_terminal_gets_no_control_characters():
    text = on_terminal(80, TERM="dumb").replace("\r\n", "\n")
    assert text == "a note while the bar is shown\n"


def test_without_terminal_there_is_one_line_per_interval(capfd, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.05)
    lines = []
    monkeypatch.setattr(notes, "note", lines.append)
    with Progress("fetch", 2_000_000, "bytes") as job:
        job.advance(500_000)
        wait_until(lambda: len(lines) >= 2)
    count = len(lines)
    assert lines[0] == "fetch: 25 %, 500000 of 2000000 bytes, 0 s"
    assert not job._thread.is_alive() and len(lines) == count


def test_a_job_that_ends_soon_shows_nothing(capfd):
    with Progress("decode", 10, "bytes") as job:
        job.advance(10)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("done", "total", "unit", "line"),
    [
        (0, None, "", "call: 0 s"),
        (7, None, "fixes", "call: 7 fixes, 0 s"),
        (7, 0, "segments", "call: 7 segments, 0 s"),
        (1.5, 3, "hours", "call: 50 %, 1.5 of 3 hours, 0 s"),
        (9, 3, "bytes", "call: 100 %, 9 of 3 bytes, 0 s"),
    ],
)
def test_line_of_each_kind_of_job(done, total, unit, line):
    with Progress("call", total, unit, shown=False) as job:
        job.update(done, total)
        assert job.line() == line


def test_line_has_no_control_characters():
    with Progress("clip \x1b[2J\u202e", shown=False) as job:
        assert job.line().isprintable()


def test_quiet_switches_progress_and_notes_off_but_not_warnings(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.01)
    notes.set_quiet(True)
    with Progress("decode") as job:
        notes.note("a note")
        notes.warn("a key can be read by others")
    assert job._thread is None and capsys.readouterr().err == "warning: a key can be read by others\n"


def test_nothing_goes_to_standard_output_if_standard_error_is_closed():
    command = ["/bin/sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-m", "patrolink", "decode", "nothing", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    (error,) = records(done.stdout)
    assert done.returncode == 2 and error["exit_code"] == 2


def test_the_progress_ends_with_an_error_of_the_job():
    with pytest.raises(KeyboardInterrupt), Progress("decode") as job:
        raise KeyboardInterrupt
    assert not job._thread.is_alive()


def test_hub_shows_progress_until_it_is_ready(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.05)
    monkeypatch.setattr(notes, "note", lines.append)

    def serve(site, shard, pcap, ready):
        wait_until(lambda: lines)
        ready({"groups": 1})
        count = len(lines)
        assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
        assert len(lines) == count
        return {"floors": [], "frames": 0}

    monkeypatch.setattr(supervisor, "serve", serve)
    assert main(["hub", str(tmp_path / "site.toml")]) == 0
    assert lines[0].startswith("hub: start: 0 s")
