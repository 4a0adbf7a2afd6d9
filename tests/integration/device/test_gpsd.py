"""A receiver shared through gpsd: the real daemon reads the emulated receiver and serves the device."""

import contextlib
import itertools
import json
import shutil
import socket
import subprocess
import threading

import pytest
from patrolink.core import resources
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.scenarios import control_room

from tests.support.device_rig import walk
from tests.support.polling import TIMEOUT_S, wait_until

GPSD = shutil.which("gpsd") or shutil.which("gpsd", path="/usr/sbin")
SPEED = 100


class Gpsd:
    """The daemon on a free port of the loopback interface. It never writes to the receiver."""

    def __init__(self) -> None:
        (self.port,) = control_room.free_ports(1, socket.SOCK_STREAM)
        self.process: subprocess.Popen | None = None

    def start(self, line: str) -> None:
        """Start the daemon with the receiver at the path `line`; return when it has opened the receiver."""
        command = [GPSD, "-N", "-n", "-b", "-S", str(self.port), line]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._serves, "gpsd has not opened its receiver")

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

    @contextlib.contextmanager
    def client(self):
        """Yield the lines that another client receives."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S) as s, s.makefile("rw") as f:
            f.write('?WATCH={"enable":true,"nmea":true};\n')
            f.flush()
            yield f

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def gpsd():
    if GPSD is None:
        pytest.skip("no gpsd; apt-get install gpsd")
    daemon = Gpsd()
    yield daemon
    daemon.stop()


@pytest.mark.parametrize("board", ["linux", "unix"])
def test_every_fix_arrives_in_spite_of_a_restart_of_gpsd(rig, gpsd, board):
    if board == "unix":
        try:
            resources.interpreter("micropython")
        except Exception as e:
            pytest.skip(str(e))
    epochs, restarted = list(nmea.speak(walk(200))), threading.Event()
    sentences_before = sum(block.count(b"$") for _, block in epochs[:100])

    def pause_for_restart():
        yield from epochs[:100]
        restarted.wait(TIMEOUT_S)
        yield from epochs[100:]

    device_rig = rig(board, pause_for_restart(), SPEED, batch_fixes=20, gps_uart=f"gpsd://127.0.0.1:{gpsd.port}")
    connected = f"gps: connected to gpsd://127.0.0.1:{gpsd.port}"
    log = device_rig.device.log
    wait_until(
        lambda: "cannot open" in log.read_text() or "hung up" in log.read_text(), "no message about a lack of gpsd"
    )
    gpsd.start(device_rig.receiver.path)
    wait_until(lambda: connected in log.read_text(), log.read_text)
    with gpsd.client() as lines:
        device_rig.receiver.start()
        sentences = (line for line in lines if line.startswith("$"))
        assert len(list(itertools.islice(sentences, sentences_before))) == sentences_before
    gpsd.stop()
    gpsd.start(device_rig.receiver.path)
    wait_until(lambda: log.read_text().count(connected) == 2, log.read_text)
    restarted.set()
    summary = device_rig.finish()
    times = device_rig.times()
    assert summary["fixes"] == len(times) == len(set(times)) == 200
    assert summary["bad_checksum"] == 0 and summary["skipped_bytes"] > 0  # gpsd's own lines
