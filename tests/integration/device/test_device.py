"""The whole device on an emulated board, on both runtimes, while its world misbehaves."""

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

HEAP_LIMIT = 140 * 1024  # of 192 KiB, on a 64-bit machine; the bytecode of the agent takes most of it
MODEM_HEAP_LIMIT = 168 * 1024


@pytest.mark.parametrize("board", ["unix", "linux"])
def test_ten_thousand_fixes_arrive_once(rig, board):
    points = walk(10_000)
    it = rig(board, nmea.speak(points), speed=1e6)
    it.receiver.start()
    told = it.finish()
    times = it.times()
    assert told["fixes"] == len(times) == len(set(times)) == 10_000
    assert told["dropped"] == told["left"] == told["bad_checksum"] == 0
    if told["heap_used"] is not None:
        # 2.8 hours of patrol at 1 Hz: a bounded heap, and as much of it free at the end as at the start.
        free = [row["heap_free_kb"] for row in it.rows if row["message"] == "device_status"]
        print(f"heap used {told['heap_used']} bytes; free over time {free} KiB")
        assert told["heap_used"] < HEAP_LIMIT and free[-1] >= free[0] - 1


def test_broker_that_resets_and_black_holes_loses_nothing(rig):
    it = rig("unix", nmea.speak(walk(600)), speed=100, batch_fixes=20)
    it.receiver.start()
    for n in (60, 140, 220):
        it.listen(lambda n=n: it.decoder.stats.fixes >= n)
        it.proxy.cut()
    it.listen(lambda: it.decoder.stats.fixes >= 300)
    it.proxy.mode = BLACKHOLE
    time.sleep(1)
    it.proxy.cut()
    it.proxy.mode = PASS
    told = it.finish()
    assert told["fixes"] == 600 and sorted(set(it.times())) == sorted(it.times()) and len(it.times()) == 600
    assert told["connects"] >= 4


def test_power_loss_in_mid_patrol_repeats_no_counter(rig):
    it = rig("linux", nmea.speak(walk(400)), speed=100, batch_fixes=20)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 100)
    it.device.kill()
    it.device = it.boot()
    it.finish()
    counters = {row["counter"] for row in it.rows if row["message"] == "hello"}
    boots = [row["boot"] for row in it.rows if row["message"] == "hello"]
    assert boots == [1, 2] and len(counters) == 2 and max(counters) >= 1024
    assert it.decoder.stats.rejected == {} and len(it.times()) == len(set(it.times()))


def test_a_network_that_stays_away_is_outlived_in_bounded_memory(rig):
    it = rig("unix", nmea.speak(walk(12_000)), speed=1e6, batch_fixes=20)
    it.proxy.mode = BLACKHOLE
    it.proxy.cut()
    it.receiver.start()
    wait_until(lambda: it.device.check() or it.spoken(), it.device.console_text)
    it.proxy.cut()
    it.proxy.mode = PASS
    told = it.device.power_off(60)
    it.listen(lambda: it.decoder.stats.frames - it.decoder.stats.duplicates >= told["published"])
    # 3.3 hours without a network: all of it waits on storage, and arrives in order.
    assert told["fixes"] == 12_000 and told["dropped"] == told["left"] == 0
    times = it.times()
    assert len(times) == len(set(times)) == 12_000 and times == sorted(times)
    assert told["heap_used"] < HEAP_LIMIT


@pytest.mark.parametrize("board", ["unix", "linux"])
def test_pty_that_vanishes_is_reported_and_does_not_end_the_device(rig, board):
    it = rig(board, nmea.speak(walk(50)), speed=50, batch_fixes=10)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 30)
    it.receiver.close()
    modes = lambda: [row["gps_mode"] for row in it.rows if row["message"] == "device_status"]  # noqa: E731
    it.listen(lambda: modes() and modes()[-1] == "silent")
    told = it.device.power_off()
    it.listen(lambda: it.decoder.stats.frames - it.decoder.stats.duplicates >= told["published"])
    assert len(it.times()) == told["fixes"] >= 30
    assert "hung up" in it.device.log.read_text()


def test_corrupt_nmea_costs_sentences_not_the_device(rig):
    def corrupted():
        for i, (at, block) in enumerate(nmea.speak(walk(300))):
            bad = bytearray(block)
            if i % 3 == 1:
                bad[i % len(bad)] ^= 1 << (i % 8)
            if i % 7 == 2:
                bad = bad[: len(bad) // 2] + b"\xb5\x62\x01\x07" + bad[: len(bad) // 3]
            yield at, bytes(bad)

    it = rig("unix", corrupted(), speed=200)
    it.receiver.start()
    told = it.finish()
    assert told["bad_checksum"] > 50 and told["fixes"] >= 290
    assert len(it.times()) == told["fixes"]


def test_configuration_that_cannot_be_used_is_told(tmp_path, broker):
    board = boards.find("linux")
    device = boot(board, tmp_path, {"device": "x", "key": "deadbeef", "broker": {}, "gps_uart": "/dev/null"})
    with pytest.raises(DeviceError, match="64 hexadecimal digits"):
        for _ in range(100):
            device.check()
            time.sleep(0.1)
    assert "deadbeef" not in device.log.read_text()


@pytest.mark.parametrize("board, dialect", [("unix", "quectel"), ("unix", "simcom"), ("linux", "simcom")])
def test_a_patrol_through_the_emulated_modem(rig, board, dialect):
    it = rig(board, nmea.speak(walk(600)), speed=100, modem=dialect)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 60)
    with it.modem.locked() as port:
        port.network.drop_pdp()
    it.listen(lambda: it.decoder.stats.fixes >= 240)
    with it.modem.locked() as port:
        port.modem.start()  # a brown-out
    it.listen(lambda: it.decoder.stats.fixes >= 540)
    told = it.finish()
    times = it.times()
    assert told["fixes"] == len(times) == len(set(times)) == 600 and told["left"] == 0
    assert told["connects"] >= 3 and told["dropped"] == 0
    if told["heap_used"] is not None:
        print(f"heap used {told['heap_used']} bytes")
        assert told["heap_used"] < MODEM_HEAP_LIMIT
    log = it.device.log.read_text()
    assert "modem: restarted unexpectedly" in log and "8986" not in log and it.key.hex() not in log


def test_a_modem_that_hangs_is_reset_by_its_line(rig):
    it = rig("unix", nmea.speak(walk(300)), speed=20, modem="quectel", timeout_s=3)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 60)
    with it.modem.locked() as port:
        port.modem.mood = "silent"
        start = port.modem.start

        def wakes_by_reset():
            port.modem.mood = "well"
            start()

        port.modem.start = wakes_by_reset
    it.listen(lambda: it.decoder.stats.fixes >= 240, 90)
    told = it.finish()
    assert told["modem_resets"] >= 1 and told["fixes"] == len(set(it.times())) == 300


@pytest.mark.parametrize("mode", [THROTTLE, DRIP])
def test_a_slow_way_to_the_broker(rig, mode):
    it = rig("linux", nmea.speak(walk(120)), speed=60, batch_fixes=20)
    it.proxy.mode = mode
    it.receiver.start()
    told = it.finish()
    assert told["fixes"] == len(it.times()) == len(set(it.times())) == 120


@pytest.mark.parametrize("board, modem", [("unix", ""), ("unix", "simcom"), ("linux", "quectel")])
def test_tls_with_a_client_certificate_over_a_line_that_damages(rig_tls, board, modem):
    """What a plain session would deliver damaged, TLS does not take: the session falls and the frame goes again."""
    it = rig_tls(board, modem)
    it.receiver.start()
    it.listen(lambda: it.decoder.stats.fixes >= 60)
    it.proxy.mode = CORRUPT
    time.sleep(2)
    it.proxy.mode = PASS
    it.proxy.cut()
    told = it.finish()
    assert told["fixes"] == len(it.times()) == len(set(it.times())) == 300
    assert it.decoder.stats.rejected == {} and told["connects"] >= 2


@pytest.mark.parametrize("board", ["unix", "linux"])
@pytest.mark.parametrize(
    "wrong, words",
    [
        ("ca", "TLS with .* failed"),
        ("name", "TLS with .* failed"),
        ("expired", "TLS with .* failed"),
        ("no client certificate", "no session"),
        ("password", "wrong user or password|not authorised"),
    ],
)
def test_a_broker_that_may_not_be_trusted_or_does_not_trust(rig_tls, tmp_path, board, wrong, words):
    it = rig_tls(board, "", wrong)
    wait_until(lambda: it.device.check() or re.search(words, it.device.console_text()), it.device.console_text)
    told = it.device.power_off()
    assert told["published"] == 0 and told["left"] > 0
    log = it.device.log.read_text()
    assert "open-sesame" not in log and "wrong-word" not in log


@pytest.fixture
def rig_tls(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(board: str, modem: str, wrong: str = "") -> DeviceRig:
            name = "10.0.0.1" if wrong == "name" else "127.0.0.1"
            files = certificates.make(tmp_path / "tls", name, "rig", expired=wrong == "expired")
            other = certificates.make(tmp_path / "other", "127.0.0.1", "rig")
            if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
                pytest.skip("TLS and passwords need mosquitto")
            broker = Broker(tls=files, passwords={"patrol": "open-sesame"})
            stack.callback(broker.stop)
            tls = {"ca": str(other.ca if wrong == "ca" else files.ca)}
            if wrong != "no client certificate":
                tls["cert"] = tls["key"] = str(files.client)
            word = "wrong-word" if wrong == "password" else "open-sesame"
            login = {"tls": tls, "user": "patrol", "password": word}
            it = DeviceRig(tmp_path, board, broker, nmea.speak(walk(300)), 20, modem, login, batch_fixes=20)
            stack.callback(it.stack.close)
            return it

        yield make


def test_an_sos_is_answered_by_the_hub_through_a_real_broker(rig):
    it = rig("unix", nmea.speak(walk(200)), speed=10, modem="quectel")
    it.receiver.start()
    it.listen(lambda: any(row["message"] == "hello" for row in it.rows))
    it.device.press("sos")
    events = lambda: [row for row in it.rows if row["message"] == "event"]  # noqa: E731
    it.listen(lambda: len(events()) == 1)
    row = events()[0]
    assert row["kind"] == "sos" and row["cause"] == "button" and row["ack_wanted"] == 1
    downlink = Downlink({it.device_id: DeviceKey(it.key)})
    it.listen(lambda: it.decoder.stats.duplicates >= 1)  # unanswered, it comes again
    it.transport.publish(it.device_id, downlink.acknowledge_event(it.device_id, row["event_id"], 0, "duty officer"))
    it.listen(lambda: it.receiver.done and it.receiver.drained())
    told = it.device.power_off()
    assert told["left"] == 0 and len(events()) == 1
