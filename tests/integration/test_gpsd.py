"""A receiver shared through gpsd: the real daemon stands between the emulated receiver and the device."""

import json
import shutil
import socket
import subprocess
import threading
import time

import pytest
from patrolink import home
from patrolink.emulator import nmea, station

from tests.rig import walk

GPSD = shutil.which("gpsd") or shutil.which("gpsd", path="/usr/sbin")
SPEED = 100


def until(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Gpsd:
    """The daemon on a free port of loopback. It never writes to the receiver."""

    def __init__(self) -> None:
        (self.port,) = station.free_ports(1, socket.SOCK_STREAM)
        self.process: subprocess.Popen | None = None

    def start(self, line: str) -> None:
        """Serve the receiver on `line`; return once it has been opened."""
        command = [GPSD, "-N", "-n", "-b", "-S", str(self.port), line]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._serves, 10, "gpsd does not open its receiver")

    def _serves(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "gpsd has ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s, s.makefile("rw") as f:
                f.readline()
                f.write("?DEVICES;\n")
                f.flush()
                devices = json.loads(f.readline())["devices"]
        except OSError:
            return False
        return any("activated" in device for device in devices)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def gpsd():
    if GPSD is None:
        pytest.skip("no gpsd; apt-get install gpsd")
    it = Gpsd()
    yield it
    it.stop()


@pytest.mark.parametrize("board", ["linux", "unix"])
def test_every_fix_arrives_through_gpsd_and_through_its_restart(rig, gpsd, board):
    if board == "unix":
        try:
            home.interpreter("micropython")
        except Exception as e:
            pytest.skip(str(e))
    go_on = threading.Event()

    def spoken():
        for i, epoch in enumerate(nmea.speak(walk(200))):
            if i == 100:
                go_on.wait(60)
            yield epoch

    it = rig(board, spoken(), SPEED, batch_fixes=20, gps_uart=f"gpsd://127.0.0.1:{gpsd.port}")
    answers = f"gps: gpsd://127.0.0.1:{gpsd.port} answers"
    log = it.device.log
    until(lambda: "cannot open" in log.read_text() or "hung up" in log.read_text(), 10, "the missing gpsd is not told")
    gpsd.start(it.receiver.path)
    until(lambda: answers in log.read_text(), 10, log.read_text())
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 80)
    until(lambda: it.receiver.epochs_sent == 100 and it.receiver.drained(), 20, "the receiver stands still")
    time.sleep(0.5)  # gpsd's own way to its clients
    gpsd.stop()
    gpsd.start(it.receiver.path)
    until(lambda: log.read_text().count(answers) == 2, 10, log.read_text())
    go_on.set()
    told = it.finish()
    times = it.times()
    assert told["fixes"] == len(times) == len(set(times)) == 200
    assert told["bad_checksum"] == 0 and told["skipped_bytes"] > 0  # gpsd's own lines
