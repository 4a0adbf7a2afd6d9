"""What the hub answers at once: authentic frames that it refuses, at a bounded rate, and requests for the time."""

import patrolink_messages as m
import pytest
from patrolink_protocol import frame

from tests.support import hub_parts, site_file
from tests.support.hub_harness import HubHarness

site_folder = hub_parts.site_folder
REASONS = m.REASONS.split()


@pytest.fixture
def hub(site_folder):
    harness = HubHarness(site_folder)
    harness.take_publications()
    yield harness
    harness.close()


def sealed(kind: int, body: bytes, counter: int, key: bytes | None = None) -> bytes:
    """Return a frame of vest-1 with any body."""
    buf = bytearray(m.MAX_FRAME)
    end = frame.HEADER_BYTES + len(body)
    buf[frame.HEADER_BYTES : end] = body
    channel = frame.Channel(key or site_file.keys_of(["vest-1"])["vest-1"], b"vest-1")
    return bytes(buf[: channel.seal_into(buf, kind, counter, end)])


def rejects(hub: HubHarness) -> list[tuple[str, int, int, str]]:
    """Take the messages to devices; return those of type `reject`: device, counter, type of the frame and reason."""
    return [
        (device, values["refused_counter"], values["message_type"], REASONS[values["reason"] - 1])
        for device, kind, values in hub.take_publications()
        if kind == m.REJECT
    ]


def test_a_frame_refused_for_its_body_or_type_is_reported_once(hub):
    bad = sealed(m.DEVICE_STATUS, b"\0", 5)
    hub.receive("vest-1", bad)
    hub.receive("vest-1", bad)  # now a repetition
    assert rejects(hub) == [("vest-1", 5, m.DEVICE_STATUS, "length")]
    hub.clock.now_ms += 10_000
    hub.receive("vest-1", sealed(31, b"", 6))
    assert rejects(hub) == [("vest-1", 6, 31, "type")]
    assert hub.metrics.refused == {"frame length": 1, "frame type": 1}


def test_rejects_are_limited_in_number(hub):
    for counter in range(100):
        hub.receive("vest-1", sealed(31, b"", counter))
        hub.clock.now_ms += 1000
    assert [counter for _, counter, _, _ in rejects(hub)] == list(range(0, 100, 10))


def test_old_frames_are_reported_once_a_minute(hub):
    hub.receive("vest-1", sealed(m.DEVICE_STATUS, b"\0", m.REPLAY_WINDOW + 100))
    hub.take_publications()
    hub.clock.now_ms += 10_000
    old = sealed(m.DEVICE_STATUS, b"\0", 3)
    for _ in range(25):
        hub.receive("vest-1", old)
        hub.clock.now_ms += 5000
    assert rejects(hub) == [("vest-1", 3, m.DEVICE_STATUS, "replay")] * 3


def test_forged_frames_and_rejects_are_never_answered(hub):
    hub.receive("vest-1", sealed(31, b"", 1, key=bytes(32)))
    hub.receive("vest-1", sealed(m.REJECT, b"\xff", 2))
    hub.receive("vest-1", b"")
    assert rejects(hub) == []


def test_a_reject_of_a_device_is_counted(hub):
    hub.send("vest-1", m.REJECT, {"refused_counter": 4, "message_type": m.COMMAND, "reason": 7, "detail": b""})
    assert hub.metrics.counts["frames_rejected_by_devices"] == 1 and rejects(hub) == []


def test_a_barred_device_is_not_told(hub):
    hub.service._sender._bars = {"vest-1": None}
    hub.receive("vest-1", sealed(31, b"", 1))
    assert rejects(hub) == [] and hub.metrics.counts["downlink_barred"] == 1


def test_a_device_that_asks_is_told_the_time(hub):
    hub.send("vest-1", m.TIME_SYNC, {"originate_ms": 4711})
    times = [values for device, kind, values in hub.take_publications() if (device, kind) == ("vest-1", m.TIME_SYNC)]
    now_ms = hub.clock.unix_ms()
    assert times == [{"originate_ms": 4711, "receive_ms": now_ms, "transmit_ms": now_ms}]
