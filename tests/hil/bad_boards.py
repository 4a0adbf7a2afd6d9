"""Tests on boards with faults. Every test must fail: test_bad_boards.py runs them and checks how they fail."""

import os
import signal
import time
from pathlib import Path

import pytest
from patrolink.emulator.peripherals import nmea

from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S
from tests.support.tcp_proxy import BLACKHOLE

# The file is closed after each write: littlefs discards a file whose last write fails.
FILL = """
for size in (16384, 4096):
  try:
    while True:
      with open('/fill', 'ab') as f: f.write(bytes(size))
  except OSError: pass
import os
print('blocks free:', os.statvfs('/')[3])
"""
pytestmark = pytest.mark.needs("gps", "modem", "buttons")


@pytest.fixture
def hanging_bench(rig):
    """A board that hangs once it is ready."""
    bench = rig(nmea.speak(walk(60)), 10, modem="quectel")
    os.kill(bench.device._process.pid, signal.SIGSTOP)
    return bench


def test_board_hangs(hanging_bench):
    hanging_bench.receiver.start()
    hanging_bench.listen(lambda: hanging_bench.decoder.stats.fixes, 3)


@pytest.mark.timeout(3, func_only=True)  # without the boot, which takes long on a busy machine
def test_board_hangs_until_test_timeout(hanging_bench):
    time.sleep(100)  # longer than the timeout of the test


def test_board_panics(rig):
    rig(nmea.speak(walk(60)), 10, modem="quectel", batch_fixes="sixty")


@pytest.mark.needs("console")
def test_board_faults(rig, console):
    """The test itself detects no failure; the check of the board after the test does."""
    rig(nmea.speak(walk(60)), 10, modem="quectel")
    with console.wire.attach() as path, open(path, "r+b", 0) as keys:
        keys.write(b"\x03")
        assert console.find(">>> ", TIMEOUT_S)
        keys.write(b"import machine; machine.mem32[0xF0000000]\r\n")
        assert console.find("ready, boot 2", TIMEOUT_S)


@pytest.mark.needs("console")
def test_board_has_full_disk(rig, console):
    bench = rig(nmea.speak(walk(120)), 40, modem="quectel", batch_fixes=1)
    console.mpremote("exec", FILL)
    bench.cycle()
    bench.proxy.mode = BLACKHOLE  # the board must store its frames
    bench.receiver.start()
    bench.listen(bench.input_consumed, 60)  # littlefs is slow to report that the disk is full
    dropped = bench.device.power_off()["dropped"]
    assert console.find('"dropped"', TIMEOUT_S)  # the log also has the line
    assert dropped == 0


@pytest.mark.needs("console")
def test_board_prints_random_bytes(rig, console):
    """Instead of running the agent, the board prints random bytes without end and ignores Ctrl-C."""
    bench = rig(nmea.speak(walk(60)), 10, modem="quectel")
    with console.wire.attach() as path, open(path, "r+b", 0) as keys:
        keys.write(b"\x03")
        assert console.find(">>> ", TIMEOUT_S)
        keys.write(b"import micropython, os, sys; micropython.kbd_intr(-1)\r\n")
        keys.write(b"while True: sys.stdout.buffer.write(os.urandom(64))\r\n\r\n")
        time.sleep(1)
    bench.receiver.start()
    bench.listen(lambda: bench.decoder.stats.fixes, 3)


def test_passes_at_second_attempt(request):
    attempts = Path(request.config.getoption("--artefacts")) / "attempts"
    attempts.parent.mkdir(exist_ok=True)
    with attempts.open("a") as f:
        f.write(".")
    assert attempts.read_text() != "."
