"""The complete device on an emulated board, on both runtimes, with faults of broker, network, modem and receiver."""

import contextlib
import re
import shutil
import time

import pytest
from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.network import certificates
from patrolink.emulator.network.broker import Broker
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink

from tests.support.device_rig import DeviceRig, walk
from tests.support.polling import wait_until
from tests.support.tcp_proxy import BLACKHOLE, CORRUPT, DRIP, PASS, THROTTLE

HEAP_LIMIT = 150 * 1024  # of 224 KiB, on a 64-bit machine; most of it is bytecode of the agent
# MicroPython allocates its table of names in steps that double: with the modem's code the agent has more than 1,270
# names on the heap, and the next step takes 14 KiB. A board with frozen code has the names in flash.
MODEM_HEAP_LIMIT = 192 * 1024


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
    time.sleep(1)
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


def test_corrupt_nmea_sentences_are_counted_and_discarded(rig):
    def corrupt_epochs():
        for i, (time_s, block) in enumerate(nmea.speak(walk(300))):
            damaged = bytearray(block)
            if i % 3 == 1:
                damaged[i % len(damaged)] ^= 1 << (i % 8)
            if i % 7 == 2:
                damaged = damaged[: len(damaged) // 2] + b"\xb5\x62\x01\x07" + damaged[: len(damaged) // 3]
            yield time_s, bytes(damaged)

    device_rig = rig("unix", corrupt_epochs(), speed=200)
    device_rig.receiver.start()
    summary = device_rig.finish()
    assert summary["bad_checksum"] > 50 and summary["fixes"] >= 290
    assert len(device_rig.times()) == summary["fixes"]


def test_invalid_key_is_reported_without_the_key(tmp_path, broker):
    board = boards.find("linux")
    device = boot(board, tmp_path, {"device": "x", "key": "deadbeef", "broker": {}, "gps_uart": "/dev/null"})
    with pytest.raises(DeviceError, match="64 hexadecimal digits"):
        for _ in range(100):
            device.check()
            time.sleep(0.1)
    assert "deadbeef" not in device.log.read_text()


@pytest.mark.parametrize("board, dialect", [("unix", "quectel"), ("unix", "simcom"), ("linux", "simcom")])
def test_modem_restart_and_lost_pdp_context_lose_nothing(rig, board, dialect):
    device_rig = rig(board, nmea.speak(walk(600)), speed=100, modem=dialect)
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
    if summary["heap_used"] is not None:
        print(f"heap used {summary['heap_used']} bytes")
        assert summary["heap_used"] < MODEM_HEAP_LIMIT
    log = device_rig.device.log.read_text()
    assert "modem: restarted unexpectedly" in log and "8986" not in log and device_rig.key.hex() not in log


def test_unresponsive_modem_is_reset_by_its_reset_pin(rig):
    device_rig = rig("unix", nmea.speak(walk(160)), speed=20, modem="quectel", timeout_s=3)
    device_rig.receiver.start()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 60)
    with device_rig.modem.locked() as port:
        port.modem.condition = "silent"
        start = port.modem.start

        def start_after_reset():
            port.modem.condition = "normal"
            start()

        port.modem.start = start_after_reset
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 120, 90)
    summary = device_rig.finish()
    assert summary["modem_resets"] >= 1 and summary["fixes"] == len(set(device_rig.times())) == 160


@pytest.mark.parametrize("mode", [THROTTLE, DRIP])
def test_slow_connection_to_the_broker_loses_nothing(rig, mode):
    device_rig = rig("linux", nmea.speak(walk(120)), speed=60, batch_fixes=20)
    device_rig.proxy.mode = mode
    device_rig.receiver.start()
    summary = device_rig.finish()
    assert summary["fixes"] == len(device_rig.times()) == len(set(device_rig.times())) == 120


@pytest.mark.parametrize("board, modem", [("unix", ""), ("unix", "simcom"), ("linux", "quectel")])
def test_tls_detects_data_corrupted_in_transit(rig_tls, board, modem):
    """A TLS session ends at corrupt data, and the device sends the frame again."""
    device_rig = rig_tls(board, modem)
    device_rig.receiver.start()
    device_rig.listen(lambda: device_rig.decoder.stats.fixes >= 60)
    device_rig.proxy.mode = CORRUPT
    time.sleep(2)
    device_rig.proxy.mode = PASS
    device_rig.proxy.cut()
    summary = device_rig.finish()
    assert summary["fixes"] == len(device_rig.times()) == len(set(device_rig.times())) == 160
    assert device_rig.decoder.stats.rejected == {} and summary["connects"] >= 2


@pytest.mark.parametrize("board", ["unix", "linux"])
@pytest.mark.parametrize(
    "fault, message",
    [
        ("ca", "TLS with .* failed"),
        ("name", "TLS with .* failed"),
        ("expired", "TLS with .* failed"),
        ("no client certificate", "no session"),
        ("password", "wrong user or password|not authorised"),
    ],
)
def test_nothing_is_sent_if_authentication_of_either_side_fails(rig_tls, tmp_path, board, fault, message):
    device = rig_tls(board, "", fault).device
    wait_until(lambda: device.check() or re.search(message, device.console_text()), device.console_text)
    summary = device.power_off()
    assert summary["published"] == 0 and summary["left"] > 0
    log = device.log.read_text()
    assert "open-sesame" not in log and "wrong-word" not in log


@pytest.fixture
def rig_tls(tmp_path):
    """Return a factory of devices with a broker that requires TLS and a password; `fault` names a wrong credential."""
    with contextlib.ExitStack() as stack:

        def make(board: str, modem: str, fault: str = "") -> DeviceRig:
            name = "10.0.0.1" if fault == "name" else "127.0.0.1"
            files = certificates.make(tmp_path / "tls", name, "rig", expired=fault == "expired")
            other = certificates.make(tmp_path / "other", "127.0.0.1", "rig")
            if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
                pytest.skip("mosquitto is required for TLS and passwords")
            broker = Broker(tls=files, passwords={"patrol": "open-sesame"})
            stack.callback(broker.stop)
            tls = {"ca": str(other.ca if fault == "ca" else files.ca)}
            if fault != "no client certificate":
                tls["cert"] = tls["key"] = str(files.client)
            password = "wrong-word" if fault == "password" else "open-sesame"
            login = {"tls": tls, "user": "patrol", "password": password}
            device_rig = DeviceRig(tmp_path, board, broker, nmea.speak(walk(160)), 20, modem, login, batch_fixes=20)
            stack.callback(device_rig.stack.close)
            return device_rig

        yield make


def test_sos_is_repeated_until_the_hub_acknowledges_it(rig):
    device_rig = rig("unix", nmea.speak(walk(100)), speed=10, modem="quectel")
    device_rig.receiver.start()
    device_rig.listen(lambda: any(row["record"] == "hello" for row in device_rig.rows))
    device_rig.device.press("sos")
    events = lambda: [row for row in device_rig.rows if row["record"] == "event"]  # noqa: E731
    device_rig.listen(lambda: len(events()) == 1)
    row = events()[0]
    assert row["kind"] == "sos" and row["cause"] == "button" and row["ack_wanted"] == 1
    downlink = Downlink({device_rig.device_id: DeviceKey(device_rig.key)})
    device_rig.listen(lambda: device_rig.decoder.stats.duplicates >= 1)  # repeated without an acknowledgement
    answer = downlink.acknowledge_event(device_rig.device_id, row["event_id"], 0, "duty officer")
    device_rig.transport.publish(device_rig.device_id, answer)
    device_rig.listen(lambda: device_rig.receiver.done and device_rig.receiver.drained())
    summary = device_rig.device.power_off()
    assert summary["left"] == 0 and len(events()) == 1
