"""The complete device as a process, on both runtimes, with real lines, sockets, TLS and brokers.

Faults of modem, network and hub are simulated (tests/simulation/test_simulation.py); here they show that the device
recovers on real lines and sockets too.
"""

import contextlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.network import certificates
from patrolink.emulator.network.broker import Broker
from patrolink.emulator.peripherals import nmea

from tests.support.device_rig import DeviceRig, walk
from tests.support.polling import wait_until
from tests.support.tcp_proxy import BLACKHOLE, CORRUPT, DRIP, PASS

# Of 240 KiB, on a 64-bit machine; most of it is bytecode of the agent. MicroPython allocates its table of names in
# steps that double: the agent has more than 1,260 names on the heap, and that step takes 14 KiB. A board with frozen
# code has the names in flash.
HEAP_LIMIT = 170 * 1024
MODEM_HEAP_LIMIT = 208 * 1024


@pytest.mark.parametrize("board", ["unix", "linux"])
def test_ten_thousand_fixes_arrive_once(rig, board):
    points = walk(10_000)
    device_rig = rig(board, nmea.speak(points), speed=1e6)
    device_rig.receiver.start()
    summary = device_rig.finish()
    times = device_rig.times()
    assert summary["fixes"] == len(times) == len(set(times)) == 10_000
    assert summary["dropped"] == summary["left"] == summary["bad_checksum"] == 0
    if summary["heap_used"] is not None:
        # After 2.8 hours of patrol at 1 Hz, as much of the heap is free as at the start.
        free_kb = [row["heap_free_kb"] for row in device_rig.rows if row["record"] == "device_status"]
        print(f"heap used {summary['heap_used']} bytes; free over time {free_kb} KiB")
        assert summary["heap_used"] < HEAP_LIMIT and free_kb[-1] >= free_kb[0] - 1


def test_reset_and_unresponsive_connections_to_the_broker_lose_nothing(rig):
    device_rig = rig("unix", nmea.speak(walk(600)), speed=100, batch_fixes=20)
    device_rig.receiver.start()
    for n in (60, 140, 220):
        device_rig.listen(lambda n=n: device_rig.decoder.stats.fixes >= n)
        device_rig.proxy.cut()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 300)
    device_rig.proxy.mode = BLACKHOLE
    wait_until(lambda: device_rig.proxy.discarded, device_rig.device.console_text)
    device_rig.proxy.cut()
    device_rig.proxy.mode = PASS
    summary = device_rig.finish()
    times = device_rig.times()
    assert summary["fixes"] == len(times) == len(set(times)) == 600
    assert summary["connects"] >= 4


def test_power_loss_during_a_patrol_repeats_no_counter(rig):
    device_rig = rig("linux", nmea.speak(walk(400)), speed=100, batch_fixes=20)
    device_rig.receiver.start()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 100)
    device_rig.device.kill()
    device_rig.device = device_rig.boot()
    device_rig.finish()
    counters = {row["counter"] for row in device_rig.rows if row["record"] == "hello"}
    boots = [row["boot"] for row in device_rig.rows if row["record"] == "hello"]
    assert boots == [1, 2] and len(counters) == 2 and max(counters) >= 64
    times = device_rig.times()
    assert device_rig.decoder.stats.rejected == {} and len(times) == len(set(times))


def test_long_network_outage_loses_nothing_and_uses_bounded_memory(rig):
    device_rig = rig("unix", nmea.speak(walk(12_000)), speed=1e6, batch_fixes=20)
    device_rig.proxy.mode = BLACKHOLE
    device_rig.proxy.cut()
    device_rig.receiver.start()
    wait_until(lambda: device_rig.device.check() or device_rig.input_consumed(), device_rig.device.console_text)
    device_rig.proxy.cut()
    device_rig.proxy.mode = PASS
    summary = device_rig.device.power_off(60)
    device_rig.listen(
        lambda: device_rig.decoder.stats.frames - device_rig.decoder.stats.duplicates >= summary["published"]
    )
    # All fixes of 3.3 hours without a network are stored, and arrive in order.
    assert summary["fixes"] == 12_000 and summary["dropped"] == summary["left"] == 0
    times = device_rig.times()
    assert len(times) == len(set(times)) == 12_000 and times == sorted(times)
    assert summary["heap_used"] < HEAP_LIMIT


@pytest.mark.parametrize("board", ["unix", "linux"])
def test_disconnected_gps_receiver_is_reported_and_does_not_end_the_device(rig, board):
    device_rig = rig(board, nmea.speak(walk(50)), speed=50, batch_fixes=10)
    device_rig.receiver.start()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 30)
    device_rig.receiver.close()
    modes = lambda: [row["gps_mode"] for row in device_rig.rows if row["record"] == "device_status"]  # noqa: E731
    device_rig.listen(lambda: modes() and modes()[-1] == "silent")
    summary = device_rig.device.power_off()
    device_rig.listen(
        lambda: device_rig.decoder.stats.frames - device_rig.decoder.stats.duplicates >= summary["published"]
    )
    assert len(device_rig.times()) == summary["fixes"] >= 30
    assert "hung up" in device_rig.device.log.read_text()


def test_invalid_key_is_reported_without_the_key(tmp_path, broker):
    board = boards.find("linux")
    device = boot(board, tmp_path, {"device": "x", "key": "deadbeef", "broker": {}, "gps_uart": "/dev/null"})
    with pytest.raises(DeviceError, match="64 hexadecimal digits"):
        wait_until(device.check, "the device runs")
    assert "deadbeef" not in device.log.read_text()


@pytest.mark.long(20)
@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
def test_modem_restart_and_lost_pdp_context_lose_nothing(rig, dialect):
    device_rig = rig("unix", nmea.speak(walk(600)), speed=100, modem=dialect)
    device_rig.receiver.start()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 60)
    with device_rig.modem.locked() as port:
        port.network.drop_pdp()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 240)
    with device_rig.modem.locked() as port:
        port.modem.start()  # a brown-out
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 540)
    summary = device_rig.finish()
    times = device_rig.times()
    assert summary["fixes"] == len(times) == len(set(times)) == 600 and summary["left"] == 0
    assert summary["connects"] >= 3 and summary["dropped"] == 0
    print(f"heap used {summary['heap_used']} bytes")
    assert summary["heap_used"] < MODEM_HEAP_LIMIT
    log = device_rig.device.log.read_text()
    assert "modem: restarted unexpectedly" in log and "8986" not in log and device_rig.key.hex() not in log


def test_slow_connection_to_the_broker_loses_nothing(rig):
    device_rig = rig("linux", nmea.speak(walk(120)), speed=60, batch_fixes=20)
    device_rig.proxy.mode = DRIP
    device_rig.receiver.start()
    summary = device_rig.finish()
    assert summary["fixes"] == len(device_rig.times()) == len(set(device_rig.times())) == 120


# --- TLS and passwords ----------------------------------------------------------------------------------------------

LOGIN = {"user": "patrol", "password": "open-sesame"}


@dataclass(frozen=True)
class Secured:
    """A broker that requires TLS, a certificate of the client and a password."""

    broker: Broker
    files: certificates.Certificates


@pytest.fixture
def secure_broker(tmp_path):
    """Return a function that starts a secured broker: (name in its certificate, whether it has expired) -> broker."""
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        pytest.skip("mosquitto is required for TLS and passwords")
    with contextlib.ExitStack() as stack:

        def start(name: str = "127.0.0.1", expired: bool = False) -> Secured:
            files = certificates.make(tmp_path / f"{name} {expired}", name, "rig", expired=expired)
            broker = Broker(tls=files, passwords={LOGIN["user"]: LOGIN["password"]})
            stack.callback(broker.stop)
            return Secured(broker, files)

        yield start


@pytest.fixture
def secure_rig(tmp_path):
    """Return a function that starts a device at a secured broker; it changes the credentials as `change` says."""
    with contextlib.ExitStack() as stack:

        def start(server: Secured, board: str, modem: str = "", **change) -> DeviceRig:
            tls = {"ca": str(server.files.ca), "cert": str(server.files.client), "key": str(server.files.client)}
            tls |= change.pop("tls", {})
            login = {**LOGIN, **change, "tls": {name: value for name, value in tls.items() if value}}
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            device_rig = DeviceRig(
                folder, board, server.broker, nmea.speak(walk(160)), 40, modem, login, batch_fixes=20
            )
            stack.callback(device_rig.stack.close)
            return device_rig

        yield start


@pytest.mark.parametrize("board, modem", [("unix", ""), ("linux", ""), ("unix", "simcom")])
def test_tls_detects_data_corrupted_in_transit(secure_broker, secure_rig, board, modem):
    """A TLS session ends at corrupt data, and the device sends the frame again."""
    device_rig = secure_rig(secure_broker(), board, modem)
    device_rig.receiver.start()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 60)
    device_rig.proxy.mode = CORRUPT
    device_rig.listen(lambda: device_rig.proxy.accepted >= 2)  # the device has left the session itself
    device_rig.proxy.mode = PASS
    device_rig.proxy.cut()
    summary = device_rig.finish()
    assert summary["fixes"] == len(device_rig.times()) == len(set(device_rig.times())) == 160
    assert device_rig.decoder.stats.rejected == {} and summary["connects"] >= 2


def test_nothing_is_sent_if_authentication_of_either_side_fails(secure_broker, secure_rig, tmp_path, subtests):
    """The devices run side by side: each tries for 10 s to send what is left when it is powered off."""
    server, named, expired = secure_broker(), secure_broker("10.0.0.1"), secure_broker(expired=True)
    foreign = certificates.make(tmp_path / "foreign", "127.0.0.1")
    faults = {
        "ca": (server, {"tls": {"ca": str(foreign.ca)}}, "TLS with .* failed"),
        "name": (named, {}, "TLS with .* failed"),
        "expired": (expired, {}, "TLS with .* failed"),
        "no client certificate": (server, {"tls": {"cert": "", "key": ""}}, "no session"),
        "password": (server, {"password": "wrong-word"}, "wrong user or password|not authorised"),
    }
    devices = {
        (fault, board): secure_rig(at, board, **change).device
        for fault, (at, change, _) in faults.items()
        for board in ("unix", "linux")
    }
    for (fault, _), device in devices.items():
        message = faults[fault][2]
        wait_until(lambda: device.check() or re.search(message, device.console_text()), device.console_text)  # noqa: B023
        device.press("off")
    for (fault, board), device in devices.items():
        with subtests.test(fault=fault, board=board):
            wait_until(device.off, device.console_text)
            summary = device.summary()
            assert summary["published"] == 0 and summary["left"] > 0
            log = device.log.read_text()
            assert LOGIN["password"] not in log and "wrong-word" not in log
