"""Boards that misbehave. Each of these tests has to fail: test_bad_boards.py runs them and looks at how they do."""

import os
import signal
import time
from pathlib import Path

import pytest
from patrolink.emulator.peripherals import nmea

from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S
from tests.support.tcp_proxy import BLACKHOLE

# littlefs forgets a file whose last write fails: it is closed after each.
FILL = """
try:
  while True:
    with open('/fill', 'ab') as f: f.write(bytes(4096))
except OSError: pass
import os
print('blocks free:', os.statvfs('/')[3])
"""
pytestmark = pytest.mark.needs("gps", "modem", "buttons")


def test_it_hangs(rig):
    it = rig(nmea.speak(walk(60)), 10, modem="quectel")
    os.kill(it.device._process.pid, signal.SIGSTOP)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes, 3)


def test_it_hangs_until_the_clock_of_the_test_has_run_out(rig):
    it = rig(nmea.speak(walk(60)), 10, modem="quectel")
    os.kill(it.device._process.pid, signal.SIGSTOP)
    time.sleep(100)  # the limit is another


def test_it_panics(rig):
    rig(nmea.speak(walk(60)), 10, modem="quectel", batch_fixes="sixty")


@pytest.mark.needs("console")
def test_it_faults(rig, console):
    """Nobody asks the board anything; its health tells."""
    rig(nmea.speak(walk(60)), 10, modem="quectel")
    with console.wire.attach() as path, open(path, "r+b", 0) as keys:
        keys.write(b"\x03")
        assert console.find(">>> ", TIMEOUT_S)
        keys.write(b"import machine; machine.mem32[0xF0000000]\r\n")
        assert console.find("ready, boot 2", TIMEOUT_S)


@pytest.mark.needs("console")
def test_it_fills_its_disk(rig, console):
    it = rig(nmea.speak(walk(400)), 40, modem="quectel", batch_fixes=1)
    console.mpremote("exec", FILL)
    it.cycle()
    it.proxy.mode = BLACKHOLE  # so that it has to store what it records
    it.receiver.start()
    it.listen(it.spoken, 60)  # a full disk is slow to find that it is full
    dropped = it.device.power_off()["dropped"]
    assert console.find('"dropped"', 20)  # its log has the line, too
    assert dropped == 0


@pytest.mark.needs("console")
def test_it_speaks_rubbish(rig, console):
    """Its console, in place of the agent, says what no tool understands, and does not stop."""
    it = rig(nmea.speak(walk(60)), 10, modem="quectel")
    with console.wire.attach() as path, open(path, "r+b", 0) as keys:
        keys.write(b"\x03")
        assert console.find(">>> ", TIMEOUT_S)
        keys.write(b"import micropython, os, sys; micropython.kbd_intr(-1)\r\n")
        keys.write(b"while True: sys.stdout.buffer.write(os.urandom(64))\r\n\r\n")
        time.sleep(1)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes, 3)


def test_it_answers_the_second_time(request):
    tries = Path(request.config.getoption("--artefacts")) / "tries"
    tries.parent.mkdir(exist_ok=True)
    with tries.open("a") as f:
        f.write(".")
    assert tries.read_text() != "."
