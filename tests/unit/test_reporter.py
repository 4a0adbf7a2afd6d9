"""Reporter: batches of positions, events with their position, and the time of rows without a date."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.gps import fix as gps
from agent.link.event_queue import LIMIT, EventQueue
from agent.link.outbox import Outbox
from agent.tracking.counter import Counter
from agent.tracking.device_clock import DeviceClock
from agent.tracking.reporter import Reporter
from memory_storage import MemoryFiles, MemoryStore
from patrolink_protocol import decode, frame, track_encoder

KEY = bytes(range(32))


def make_reporter(batch_fixes=60, batch_s=60, events=None):
    """Return (Reporter, Outbox) with empty storage."""
    outbox = Outbox(MemoryFiles(), 1 << 16)
    config = {"batch_fixes": batch_fixes, "batch_s": batch_s}
    channel = frame.Channel(KEY, b"dev-1")
    if events is None:
        events = EventQueue(MemoryFiles(), lambda: 0)
    counter, clock = Counter(MemoryStore()), DeviceClock()
    return Reporter(channel, counter, outbox, events, config, lambda: enums.UNKNOWN, clock), outbox


def fix(i, lat=310000000, lon=1210000000, mode=3, day=19723):
    f = gps.Fix()
    f.day, f.ms, f.mode = day, (1000 * i) % 86400000, mode
    if mode > 1:
        f.lat_e7, f.lon_e7, f.flags = lat, lon, gps.HAS_POSITION
        f.judged_lat_e7, f.judged_lon_e7 = lat, lon
    f.alt_mm, f.speed_mms, f.course_cd, f.sats = 5000, 1400, 9000, 9
    return f


def drain(outbox):
    """Return (frames, decoded fixes) of the outbox, and empty it."""
    fixes = []
    frames = []
    while len(outbox):
        data = bytes(outbox.peek())
        outbox.acknowledge()
        frames.append(data)
        kind, _, body, _ = frame.Channel(KEY, b"dev-1").open_frame(data)
        fixes += decode.decode(kind, body)["fixes"]
    return frames, fixes


def test_batch_is_sent_when_full_or_old():
    reporter, outbox = make_reporter(3, 60)
    for i in range(5):
        reporter.on_fix(fix(i), 1000 * i)
    assert len(outbox) == 2
    reporter.poll(4000 + 59999)
    assert len(outbox) == 2
    reporter.poll(4000 + 60000)
    frames, fixes = drain(outbox)
    assert len(frames) == 3 and len(fixes) == 5 and reporter.rows == 5


def test_first_position_is_sent_at_once_also_after_a_batch_period_without_one():
    reporter, outbox = make_reporter(120, 60)
    reporter.on_fix(fix(0, mode=1), 0)
    assert len(outbox) == 0
    reporter.on_fix(fix(1), 1000)
    assert len(outbox) == 1  # includes the row without a position
    for i in range(2, 61):
        reporter.on_fix(fix(i, mode=1 if i % 2 else 3), 1000 * i)  # an intermittent fix starts no further frame
    assert len(outbox) == 1 and reporter.open_rows() == 59
    for i in range(61, 120):
        reporter.on_fix(fix(i, mode=1), 1000 * i)
    assert len(outbox) == 1
    reporter.on_fix(fix(120), 120000)
    frames, fixes = drain(outbox)
    assert len(frames) == 2 and len(fixes) == 121 and reporter.open_rows() == 0


def test_random_rows_need_more_frames_and_none_is_lost():
    reporter, outbox = make_reporter(255)
    state = 7
    sent = []
    for i in range(255):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        lat = state % 1800000001 - 900000000
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        lon = (state * 3) % 3600000001 - 1800000000
        f = fix(i, lat, lon)
        f.alt_mm, f.speed_mms, f.course_cd = state % 19000000, state % 999999, state % 36000
        f.ms += state % 1000
        sent.append((19723 * 86400000 + f.ms, lat, lon))
        reporter.on_fix(f, 0)
    reporter.flush()
    frames, fixes = drain(outbox)
    assert len(frames) > 1 and max([len(f) for f in frames]) <= 1024
    assert len(fixes) == 255
    for row, (ms, lat, lon) in zip(fixes, sent):
        assert row["time_ms"] == ms and abs(row["lat_e7"] - lat) <= 5 and abs(row["lon_e7"] - lon) <= 5


def test_row_without_a_fix_has_no_position():
    reporter, outbox = make_reporter(3)
    for i, mode in enumerate((3, 1, 3)):
        reporter.on_fix(fix(i, mode=mode), 0)
    reporter.flush()
    _, fixes = drain(outbox)
    assert [f["mode"] for f in fixes] == [3, 1, 3] and fixes[1]["lat_e7"] is None


def test_rows_without_a_date_use_the_clock_once_it_is_set():
    reporter, outbox = make_reporter(2)
    reporter.on_fix(fix(0, day=enums.UNKNOWN), 0)
    assert reporter.untimed == 1 and reporter.rows == 0
    reporter.on_fix(fix(86399), 1000)
    reporter.on_fix(fix(0, day=enums.UNKNOWN), 3500)
    reporter.flush()
    _, fixes = drain(outbox)
    assert fixes[1]["time_ms"] - fixes[0]["time_ms"] == 2500


def test_suspect_date_is_flagged_and_does_not_set_the_clock():
    reporter, outbox = make_reporter(1)
    old = fix(0, day=12000)
    old.flags |= gps.DATE_SUSPECT
    reporter.on_fix(old, 0)
    reporter.on_fix(fix(0, day=enums.UNKNOWN), 1000)
    _, fixes = drain(outbox)
    assert len(fixes) == 1 and fixes[0]["flags"] == track_encoder.DATE_SUSPECT >> 2 and reporter.untimed == 1


def test_event_flushes_the_track_and_has_position_and_time():
    events = EventQueue(MemoryFiles(), lambda: 0)
    reporter, outbox = make_reporter(60, events=events)
    for i in range(3):
        reporter.on_fix(fix(i), 1000 * i)
    for ack_wanted in (0, 1):
        event_id = reporter.raise_event(1, 0, ack_wanted, 5000)
        data = bytes((events if ack_wanted else outbox).peek())
        kind, counter, body, _ = frame.Channel(KEY, b"dev-1").open_frame(data)
        message = decode.decode(kind, body)
        assert message["event_id"] == counter == event_id and message["kind"] == 1
        assert message["lat_e7"] == 310000000 and message["fix_age_s"] == 3
        assert message["time_ms"] % 86400000 == 2000 + 3000
    kinds = []
    while len(outbox):
        kinds.append(outbox.peek()[0] & 31)
        outbox.acknowledge()
    assert kinds == [m.EVENT, m.POSITION_BATCH, m.POSITION_BATCH] and len(events) == 1


def test_event_earlier_than_the_last_position_has_a_fix_age_of_zero():
    reporter, outbox = make_reporter(60, 60)
    reporter.on_fix(fix(0), 5000)
    reporter.raise_event(1, 0, 0, 4999)
    event = None
    while len(outbox):
        kind, _, body, _ = frame.Channel(KEY, b"dev-1").open_frame(bytes(outbox.peek()))
        outbox.acknowledge()
        if kind == m.EVENT:
            event = decode.decode(kind, body)
    assert event["fix_age_s"] == 0


def test_events_beyond_the_limit_of_the_event_queue_use_the_outbox():
    events = EventQueue(MemoryFiles(), lambda: 0)
    reporter, outbox = make_reporter(60, events=events)
    for _ in range(LIMIT + 5):
        reporter.raise_event(1, 0, 1, 0)
    assert len(events) == LIMIT and len(outbox) == 5


def test_network_time_is_used_until_the_receiver_has_a_date():
    reporter, outbox = make_reporter(1)
    reporter.clock.set_network(20000, 5000, 0)
    reporter.on_fix(fix(0, day=enums.UNKNOWN), 1000)
    reporter.clock.set_network(1, 1, 2000)  # ignored: the time is already set
    reporter.on_fix(fix(0, day=enums.UNKNOWN), 3000)
    _, fixes = drain(outbox)
    assert [f["time_ms"] for f in fixes] == [20000 * 86400000 + 6000, 20000 * 86400000 + 8000]


def test_sealed_message_is_not_stored():
    reporter, outbox = make_reporter()
    values = {"image": bytes(8), "offset": 900, "max_bytes": 900}
    sealed = bytes(reporter.seal(m.FIRMWARE_REQUEST, values))
    assert len(outbox) == 0 and len(sealed) <= 32
    reporter.send(m.FIRMWARE_REQUEST, values)
    stored = bytes(outbox.peek())
    channel = frame.Channel(KEY, b"dev-1")
    assert [channel.open_frame(data)[:3] for data in (sealed, stored)] == [
        (m.FIRMWARE_REQUEST, counter, channel.open_frame(sealed)[2]) for counter in (0, 1)
    ]
