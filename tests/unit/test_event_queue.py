"""Event queue and downlink: repetition, power cuts, damaged storage, forged and replayed frames."""

import patrolink_messages as m
from agent.link.downlink import Downlink
from agent.link.event_queue import EventQueue
from agent.tracking.counter import Record
from memory_storage import MemoryFiles, MemoryStore, PowerCut, drain
from patrolink_protocol import codec, frame

KEY = bytes(range(32))


class Clock:
    def __init__(self):
        self.ms = 0

    def now_ms(self):
        return self.ms


def event(event_id, counter):
    buf = bytearray(256)
    values = {"event_id": event_id, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "text": b""}
    end = codec.encode_into(m.EVENT, values, buf, frame.HEADER_BYTES)
    return bytes(buf[: frame.Channel(KEY, b"dev-1").seal_into(buf, m.EVENT, counter, end)])


def answer(event_id, counter, key=KEY, direction=frame.DOWNLINK, epoch=0):
    buf = bytearray(256)
    values = {"event_id": event_id, "state": 1, "time_ms": 1, "who": b""}
    end = codec.encode_into(m.EVENT_STATE, values, buf, frame.HEADER_BYTES)
    channel = frame.Channel(key, b"dev-1", direction, epoch)
    return bytes(buf[: channel.seal_into(buf, m.EVENT_STATE, counter, end)])


def test_an_event_is_repeated_with_growing_intervals_until_it_is_answered():
    clock = Clock()
    events = EventQueue(MemoryFiles(), clock.now_ms)
    data = event(7, 7)
    assert events.put(data, 7)
    times = []
    for _ in range(4000):
        if drain(events) == [data]:
            times.append(clock.ms // 1000)
        clock.ms += 1000
    assert times == [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030, 3630]
    assert events.remove(8) == 0 and events.remove(7) == 1 and len(events) == 0
    clock.ms += 10000000
    assert drain(events) == [] and events.acknowledged == 1


def test_an_answered_event_is_repeated_once_a_minute_until_it_is_closed():
    clock = Clock()
    files = MemoryFiles()
    events = EventQueue(files, clock.now_ms)
    data = event(7, 7)
    events.put(data, 7)
    drain(events)
    assert events.answer(8) == 0 and events.answer(7) == 1
    assert len(events) == 0 and events.acknowledged == 1 and drain(events) == []
    times = []
    for _ in range(200):
        clock.ms += 1000
        if drain(events) == [data]:
            times.append(clock.ms // 1000)
            events.answer(7)
    assert times == [60, 120, 180] and events.acknowledged == 1
    restarted = EventQueue(files, clock.now_ms)
    assert drain(restarted) == [data] and restarted.remove(7) == 1 and files.names() == []


def test_a_new_session_repeats_unanswered_events_at_once():
    events = EventQueue(MemoryFiles(), Clock().now_ms)
    events.put(event(1, 1), 1)
    assert len(drain(events)) == 1 and drain(events) == []
    events.retry_all()
    assert len(drain(events)) == 1


def test_events_survive_a_power_cut_in_any_byte_of_a_write():
    data = event(5, 5)
    for cut in range(len(data) + 6):
        files = MemoryFiles()
        first = EventQueue(files, Clock().now_ms)
        assert first.put(event(3, 3), 3)
        files.left = cut
        try:
            stored = first.put(data, 5)
        except PowerCut:
            stored = False
        files.left = None
        restarted = EventQueue(files, Clock().now_ms)
        frames = drain(restarted)
        assert frames[0] == event(3, 3) and (frames[1:] == [data] or not stored and frames[1:] == [])
        assert restarted.remove(5) == len(frames) - 1


def test_damaged_events_are_not_sent():
    files = MemoryFiles()
    EventQueue(files, Clock().now_ms).put(event(1, 1), 1)
    name = files.names()[0]
    for i in range(len(files.data[name])):
        files.data[name][i] ^= 4
        copy = MemoryFiles()
        copy.data[name] = bytearray(files.data[name])
        assert drain(EventQueue(copy, Clock().now_ms)) == [] and copy.names() == []
        files.data[name][i] ^= 4


def test_an_event_is_sent_although_storage_is_full():
    files = MemoryFiles()
    files.full = 10
    events = EventQueue(files, Clock().now_ms)
    assert events.put(event(1, 1), 1) and events.faults == 1
    assert drain(events) == [event(1, 1)]
    events.retry_all()
    assert drain(events) == [event(1, 1)] and events.remove(1) == 1 and len(events) == 0


class DownlinkHarness:
    """A downlink whose handler records the answered events."""

    def __init__(self, store, epoch=0):
        self.answered = []
        self.log = []
        self.sent = []
        self.clock = Clock()
        self.downlink = Downlink(
            KEY, b"dev-1", epoch, Record(store, "down"), self.log.append, self.send, self.clock.now_ms
        )
        self.downlink.add_handlers({m.EVENT_STATE: self.on_event_state})

    def on_event_state(self, message):
        self.answered.append(message["event_id"])

    def send(self, kind, values):
        self.sent.append((kind, values))


def test_forged_replayed_and_damaged_frames_are_rejected():
    store = MemoryStore()
    harness = DownlinkHarness(store)
    good = answer(9, 4)
    forged = answer(9, 5, bytes(32))
    mirrored = answer(9, 6, KEY, frame.UPLINK)
    for data in (b"", b"\x00" * 40, forged, mirrored, good[:-1], good[:10] + b"\xff" + good[11:]):
        harness.downlink.receive(data)
    assert harness.answered == [] and harness.downlink.rejected == 6
    harness.downlink.receive(good)
    harness.downlink.receive(good)  # a replay
    harness.downlink.receive(answer(8, 3))  # older
    assert harness.answered == [9] and harness.downlink.rejected == 8 and harness.downlink.received == 1
    restarted = DownlinkHarness(store)
    restarted.downlink.receive(good)
    restarted.downlink.receive(answer(8, 5))
    assert restarted.answered == [8]


def test_a_replay_is_rejected_after_a_power_cut_in_a_later_epoch():
    store = MemoryStore()
    harness = DownlinkHarness(store)
    harness.downlink.receive(answer(1, 50))
    later = answer(2, 7, epoch=1)
    harness.downlink.receive(later)
    assert harness.answered == [1, 2]
    restarted = DownlinkHarness(store)  # the configuration still has epoch 0
    for data in (later, answer(3, 6, epoch=1), answer(1, 51)):
        restarted.downlink.receive(data)
    assert restarted.answered == [] and restarted.downlink.rejected == 3
    restarted.downlink.receive(answer(4, 8, epoch=1))
    assert restarted.answered == [4] and restarted.downlink.epoch == 1


def sealed(kind, body, counter):
    buf = bytearray(m.MAX_FRAME)
    end = frame.HEADER_BYTES + len(body)
    buf[frame.HEADER_BYTES : end] = body
    return bytes(buf[: frame.Channel(KEY, b"dev-1", frame.DOWNLINK).seal_into(buf, kind, counter, end)])


def test_an_authentic_frame_that_is_refused_is_reported():
    harness = DownlinkHarness(MemoryStore())
    harness.downlink.receive(sealed(m.EVENT_STATE, b"\x00", 7))  # ends inside its first field
    kind, values = harness.sent[0]
    assert kind == m.REJECT and values["refused_counter"] == 7 and values["message_type"] == m.EVENT_STATE
    assert m.REASONS.split()[values["reason"] - 1] == "length"
    codec.encode_into(m.REJECT, values, bytearray(64), 0)
    harness.downlink.receive(answer(9, 8, bytes(32)))  # forged
    harness.downlink.receive(sealed(31, b"", 8))  # of a type of a later version, within ten seconds
    assert len(harness.sent) == 1
    harness.clock.ms = 10_000
    harness.downlink.receive(sealed(31, b"", 9))
    assert [m.REASONS.split()[values["reason"] - 1] for _, values in harness.sent] == ["length", "type"]


def test_replays_and_rejects_are_not_reported():
    harness = DownlinkHarness(MemoryStore())
    good = answer(9, 4)
    for data in (good, good, answer(8, 3), sealed(m.REJECT, b"\xff\xff", 5)):
        harness.downlink.receive(data)
        harness.clock.ms += 60_000
    assert harness.sent == [] and harness.downlink.rejected == 3


def test_a_reject_of_the_hub_is_counted_and_logged():
    harness = DownlinkHarness(MemoryStore())
    for counter, reason in ((1, 7), (2, 200)):
        buf = bytearray(64)
        values = {"refused_counter": 12, "message_type": m.EVENT, "reason": reason, "detail": b"eta_s"}
        harness.downlink.receive(sealed(m.REJECT, bytes(buf[: codec.encode_into(m.REJECT, values, buf, 0)]), counter))
    assert harness.downlink.reports.received == 2 and harness.sent == []
    assert harness.log == ["hub: rejected frame 12 of type 5 (range)", "hub: rejected frame 12 of type 5 (reason 200)"]
