"""Two devices with one key: an alarm to dispatchers. An honest repetition or another address is none."""

import random

import patrolink_messages as m
import pytest
from patrolink.hub.infra.frame_digests import FRAMES, FrameDigests
from patrolink.hub.voice.clone_detector import NOTICE_MS, SIGNS, WINDOW_MS, CloneDetector
from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter

from tests.support import device_client, hub_parts, site_file
from tests.support.hub_harness import HubHarness

site_folder = hub_parts.site_folder
HOME, AWAY, ELSEWHERE = ("10.0.0.1", 5000), ("10.0.0.2", 5000), ("10.0.0.3", 5000)


@pytest.fixture
def hub(site_folder):
    harness = HubHarness(site_folder)
    yield harness
    harness.close()


# --- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_digests_tell_repetitions_from_other_frames(seed):
    """Compared with a plain dictionary: an alarm is never wrong, and none of the last frames is missed."""
    rng = random.Random(seed)
    digests, sent, epoch, highest = FrameDigests(), {}, 0, -1
    for _ in range(4000):
        if rng.random() < 0.001:
            epoch, highest, sent = epoch + 1, -1, {}
        counter = max(0, highest + rng.choice([1, 1, 1, 2, 1000, -rng.randrange(3000)]))
        tag = rng.randbytes(8)
        if counter not in sent:
            digests.record("a", epoch, counter, tag)
            sent[counter], highest = tag, max(highest, counter)
        else:
            assert not digests.is_other("a", epoch, counter, sent[counter]), f"seed {seed}"
            is_other = digests.is_other("a", epoch, counter, tag)
            assert not is_other or tag[:2] != sent[counter][:2], f"seed {seed}"
            if counter > highest - FRAMES + 1 and tag[:2] != sent[counter][:2] != b"\0\0":
                assert is_other, f"seed {seed}"
        assert not digests.is_other("b", epoch, counter, tag) and not digests.is_other("a", epoch + 1, counter, tag)


def test_late_frame_does_not_displace_a_newer_one():
    digests = FrameDigests()
    digests.record("a", 0, FRAMES + 5, b"newer")
    digests.record("a", 0, 5, b"late")
    assert digests.is_other("a", 0, FRAMES + 5, b"other") and not digests.is_other("a", 0, FRAMES + 5, b"newer")
    assert not digests.is_other("a", 0, 5, b"other"), "not remembered"


def test_another_frame_with_the_same_counter_is_an_alarm(hub):
    first = hub.send("vest-1", m.DEVICE_STATUS, hub.status_values())
    for _ in range(20):
        hub.receive("vest-1", first)
    assert hub.messages("warning") == [], "an honest repetition"
    other = hub.seal("vest-1", m.DEVICE_STATUS, {**hub.status_values(), "uptime_s": 77}, counter=0)
    for _ in range(20):
        hub.receive("vest-1", other)
    [warning] = hub.messages("warning")
    assert (warning["device"], warning["warning"]) == ("vest-1", "clone") and "hub bar" in warning["text"]
    assert hub.metrics.counts["warnings_clone"] == 20, "all are counted, one is shown"
    assert [(row["who"], row["counter"]) for row in hub.audit() if row["what"] == "clone"] == [("vest-1", 0)]


def test_repeated_sos_is_no_alarm_and_the_sos_of_a_double_is_shown(hub):
    frame = hub.send_sos("vest-1", 7)
    for _ in range(5):
        hub.receive("vest-1", frame)
    assert hub.messages("warning") == []
    values = {"event_id": 99, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "time_ms": 5, "text": b""}
    hub.receive("vest-1", hub.seal("vest-1", m.EVENT, values, counter=0))
    assert len(hub.messages("warning")) == 1 and ("vest-1", 99) in hub.open_alarms()


def test_forged_frames_are_no_alarm(hub):
    frame = hub.send("vest-1", m.DEVICE_STATUS, hub.status_values())
    for i in range(len(frame)):
        hub.receive("vest-1", frame[:i] + bytes([frame[i] ^ 1]) + frame[i + 1 :])
    assert hub.messages("warning") == []


# --- addresses -------------------------------------------------------------------------------------------------------


def test_nat_that_assigns_new_addresses_is_no_alarm():
    detector = CloneDetector()
    for port in range(1000):
        assert not detector.moved("a", ("10.0.0.1", port), ("10.0.0.1", port + 1), port * 10)


def test_alternating_addresses_are_an_alarm_once_per_notice_interval():
    detector, alarms, address = CloneDetector(), [], HOME
    for now_ms in range(0, 3 * WINDOW_MS, 5000):
        other = AWAY if address == HOME else HOME
        if detector.moved("a", address, other, now_ms):
            alarms.append(now_ms)
        address = other
    assert alarms[0] == SIGNS * 5000, "the first return is the second change"
    assert alarms == list(range(alarms[0], 3 * WINDOW_MS, NOTICE_MS))


def test_slow_change_between_two_networks_is_no_alarm():
    detector, address = CloneDetector(), HOME
    for now_ms in range(0, 100 * WINDOW_MS, WINDOW_MS // 3):
        other = AWAY if address == HOME else HOME
        assert not detector.moved("a", address, other, now_ms)
        address = other


class Sender:
    """Sends keepalives with a device's key, from an address and with its own SRTCP indices."""

    def __init__(self, hub: HubHarness, address: tuple, index: int) -> None:
        self.hub, self.address, self.index = hub, address, index
        master = srtp.derive_master(site_file.keys_of(["vest-1"])["vest-1"], b"patrolink-ptt-up", 0)
        self._context = srtp.SrtcpTransform(encrypter, *master)

    def keepalive(self) -> bytes:
        ssrc = self.hub.registry.devices["vest-1"].memberships[1].member.ssrc
        buf = bytearray(64)
        buf[:8] = device_client.RECEIVER_REPORT.pack(0x80, 201, 1, ssrc)
        n = self._context.protect(buf, 8, self.index)
        self.index += 1
        return self.send(bytes(buf[:n]))

    def send(self, packet: bytes) -> bytes:
        buf = bytearray(packet) + bytearray(64)
        control = self.hub.voice._voice._relay._control
        self.hub.call(control.on_floor_datagram, buf, len(packet), self.address, 0)
        return packet


@pytest.mark.parametrize("offset", [0, 10, 1024])
def test_two_senders_on_the_floor_socket_are_an_alarm(hub, offset):
    """The indices of a copy are ahead by up to 1,024: then all packets of the original are old."""
    original, double = Sender(hub, HOME, 100), Sender(hub, AWAY, 101 + offset)
    for _ in range(8):
        original.keepalive()
        original.index += 1
        double.keepalive()
        double.index += 1
        hub.clock.now_ms += 7500
    assert [warning["warning"] for warning in hub.messages("warning")] == ["clone"]


def test_new_address_after_another_is_no_alarm(hub):
    sender = Sender(hub, HOME, 100)
    for port in range(50):
        sender.address = (HOME[0], port)
        packet = sender.keepalive()
        sender.send(packet)  # a duplicate in the network
        hub.clock.now_ms += 1000
    assert hub.messages("warning") == [] and hub.voice_metrics.counts["clone_signs"] == 0


def test_repeated_packets_from_another_address_are_an_alarm(hub):
    sender, thief = Sender(hub, HOME, 100), Sender(hub, ELSEWHERE, 0)
    packet = sender.keepalive()
    for _ in range(SIGNS):
        thief.send(packet)
    assert len(hub.messages("warning")) == 1
    assert hub.registry.devices["vest-1"].floor_address == HOME, "and it does not move the device"
