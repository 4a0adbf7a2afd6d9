import patrolink_enums as enums
import patrolink_messages as m
from agent.gps import fix as gps
from agent.link.event_queue import LIMIT, EventQueue
from agent.link.outbox import Outbox
from agent.tracking.counter import Counter
from agent.tracking.reporter import Reporter
from memory_storage import MemoryFiles, MemoryStore
from patrolink_protocol import decode, frame, track_encoder

KEY = bytes(range(32))


def reporter(batch_fixes=60, batch_s=60):
    outbox = Outbox(MemoryFiles(), 1 << 16)
    config = {"batch_fixes": batch_fixes, "batch_s": batch_s}
    channel = frame.Channel(KEY, b"dev-1")
    events = EventQueue(MemoryFiles(), lambda: 0)
    it = Reporter(channel, Counter(MemoryStore()), outbox, events, config, lambda: enums.UNKNOWN)
    it.events = events
    return it, outbox


def fix(i, lat=310000000, lon=1210000000, mode=3, day=19723):
    f = gps.Fix()
    f.day, f.ms, f.mode = day, (1000 * i) % 86400000, mode
    if mode > 1:
        f.lat_e7, f.lon_e7, f.flags = lat, lon, gps.HAS_POSITION
    f.alt_mm, f.speed_mms, f.course_cd, f.sats = 5000, 1400, 9000, 9
    return f


def decoded(outbox):
    fixes = []
    frames = []
    while len(outbox):
        data = bytes(outbox.peek())
        outbox.acknowledge()
        frames.append(data)
        kind, _, body, _ = frame.Channel(KEY, b"dev-1").open_frame(data)
        fixes += decode.decode(kind, body)["fixes"]
    return frames, fixes


def test_a_batch_goes_when_full_or_old():
    it, outbox = reporter(3, 60)
    for i in range(5):
        it.on_fix(fix(i), 1000 * i)
    assert len(outbox) == 2
    it.poll(4000 + 59999)
    assert len(outbox) == 2
    it.poll(4000 + 60000)
    frames, fixes = decoded(outbox)
    assert len(frames) == 3 and len(fixes) == 5 and it.rows == 5


def test_the_first_place_goes_at_once_and_so_does_one_after_none_for_a_batchs_time():
    it, outbox = reporter(120, 60)
    it.on_fix(fix(0, mode=1), 0)
    assert len(outbox) == 0
    it.on_fix(fix(1), 1000)
    assert len(outbox) == 1  # with the row that has no place
    for i in range(2, 61):
        it.on_fix(fix(i, mode=1 if i % 2 else 3), 1000 * i)  # comes and goes: no frame for each
    assert len(outbox) == 1 and it.open_rows() == 59
    for i in range(61, 120):
        it.on_fix(fix(i, mode=1), 1000 * i)
    assert len(outbox) == 1
    it.on_fix(fix(120), 120000)
    frames, fixes = decoded(outbox)
    assert len(frames) == 2 and len(fixes) == 121 and it.open_rows() == 0


def test_wild_rows_take_more_frames_and_lose_nothing():
    it, outbox = reporter(255)
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
        it.on_fix(f, 0)
    it.flush()
    frames, fixes = decoded(outbox)
    assert len(frames) > 1 and max([len(f) for f in frames]) <= 1024
    assert len(fixes) == 255
    for got, (ms, lat, lon) in zip(fixes, sent):
        assert got["time_ms"] == ms and abs(got["lat_e7"] - lat) <= 5 and abs(got["lon_e7"] - lon) <= 5


def test_no_fix_is_a_row_and_keeps_no_position():
    it, outbox = reporter(3)
    for i, mode in enumerate((3, 1, 3)):
        it.on_fix(fix(i, mode=mode), 0)
    it.flush()
    _, fixes = decoded(outbox)
    assert [f["mode"] for f in fixes] == [3, 1, 3] and fixes[1]["lat_e7"] is None


def test_without_a_date_the_clock_serves_once_it_was_set():
    it, outbox = reporter(2)
    it.on_fix(fix(0, day=enums.UNKNOWN), 0)
    assert it.untimed == 1 and it.rows == 0
    it.on_fix(fix(86399), 1000)
    it.on_fix(fix(0, day=enums.UNKNOWN), 3500)
    it.flush()
    _, fixes = decoded(outbox)
    assert fixes[1]["time_ms"] - fixes[0]["time_ms"] == 2500


def test_a_suspect_date_is_told_but_not_believed():
    it, outbox = reporter(1)
    old = fix(0, day=12000)
    old.flags |= gps.DATE_SUSPECT
    it.on_fix(old, 0)
    it.on_fix(fix(0, day=enums.UNKNOWN), 1000)
    _, fixes = decoded(outbox)
    assert len(fixes) == 1 and fixes[0]["flags"] == track_encoder.DATE_SUSPECT >> 2 and it.untimed == 1


def test_an_event_takes_the_track_with_it_and_says_where_and_when():
    it, outbox = reporter(60)
    for i in range(3):
        it.on_fix(fix(1000 * i), 1000 * i)
    for ack_wanted in (0, 1):
        event_id = it.raise_event(1, 0, ack_wanted, 5000)
        data = bytes((it.events if ack_wanted else outbox).peek())
        kind, counter, body, _ = frame.Channel(KEY, b"dev-1").open_frame(data)
        message = decode.decode(kind, body)
        assert message["event_id"] == counter == event_id and message["kind"] == 1
        assert message["lat_e7"] == 310000000 and message["fix_age_s"] == 3
        assert message["time_ms"] % 86400000 == 2000000 + 3000
    kinds = []
    while len(outbox):
        kinds.append(outbox.peek()[0] & 31)
        outbox.acknowledge()
    assert kinds == [m.EVENT, m.POSITION_BATCH, m.POSITION_BATCH] and len(it.events) == 1


def test_event_with_a_time_before_the_last_position_has_a_fix_age_of_zero():
    device, outbox = reporter(60, 60)
    device.on_fix(fix(0), 5000)
    device.raise_event(1, 0, 0, 4999)
    event = None
    while len(outbox):
        kind, _, body, _ = frame.Channel(KEY, b"dev-1").open_frame(bytes(outbox.peek()))
        outbox.acknowledge()
        if kind == m.EVENT:
            event = decode.decode(kind, body)
    assert event["fix_age_s"] == 0


def test_more_unanswered_events_than_are_kept_apart_go_by_the_outbox():
    it, outbox = reporter(60)
    for _ in range(LIMIT + 5):
        it.raise_event(1, 0, 1, 0)
    assert len(it.events) == LIMIT and len(outbox) == 5


def test_time_from_the_network_serves_until_the_receiver_knows():
    it, outbox = reporter(1)
    it.set_time(20000, 5000, 0)
    it.on_fix(fix(0, day=enums.UNKNOWN), 1000)
    it.set_time(1, 1, 2000)  # only the first counts
    it.on_fix(fix(0, day=enums.UNKNOWN), 3000)
    _, fixes = decoded(outbox)
    assert [f["time_ms"] for f in fixes] == [20000 * 86400000 + 6000, 20000 * 86400000 + 8000]
