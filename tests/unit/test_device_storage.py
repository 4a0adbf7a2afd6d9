"""Storage that is full or fails: counters are never used twice, an SOS is sent, answered events are not sent again."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.link.event_queue import EventQueue
from agent.link.removal import Removal
from agent.ptt.grant_log import GrantLog
from agent.ptt.hub_link import SrtcpContext
from agent.tracking.counter import Counter, Record
from agent.tracking.device_clock import DeviceClock
from agent.tracking.reporter import Reporter
from agent.wearer.status_texts import StatusTexts
from memory_storage import MemoryFiles, MemoryStore, drain
from patrolink_protocol import aes, codec, decode, frame
from seeded_random import seeded
from test_codec import STATUS
from test_event_queue import Clock, event
from test_reporter import fix
from test_sos import KEY, RECEIVED, RESOLVED, SosHarness

ENOSPC = 28
EIO = 5


def take(counter, urgent):
    try:
        return counter.take(urgent)
    except OSError:
        return None


def test_a_record_that_storage_refuses_stays_as_it_is():
    store = MemoryStore()
    record = Record(store, "x")
    record.write(1, 5)
    store.fault = ENOSPC
    for _ in range(3):
        try:
            record.write(1, 6)
            raise AssertionError("a refused write was not reported")
        except OSError:
            assert (record.first, record.second) == (1, 5)
    store.fault = 0
    assert Record(store, "x").second == 5
    record.write(1, 7)
    assert Record(store, "x").second == 7


def test_counters_of_a_full_storage_are_left_to_events_and_never_repeat():
    """Storage fails and recovers at random, and the power is cut at random."""
    for seed in range(30):
        below = seeded(seed)
        store = MemoryStore()
        highest = -1
        for _ in range(20):
            store.fault = 0
            counter = Counter(store)
            for _ in range(below(400)):
                if below(20) == 0:
                    store.fault = ENOSPC * below(2)
                value = take(counter, below(10) == 0)
                if value is not None:
                    assert value > highest, seed
                    highest = value
                else:
                    assert store.fault, seed


def test_events_have_a_reserve_of_counters():
    store = MemoryStore()
    counter = Counter(store)
    store.fault = ENOSPC
    ordinary = 0
    while take(counter, False) is not None:
        ordinary += 1
    urgent = 0
    while take(counter, True) is not None:
        urgent += 1
    assert ordinary >= 32 and urgent == 32
    store.fault = 0
    assert counter.take() == ordinary + urgent


def test_a_restart_skips_few_counters():
    store = MemoryStore()
    for boot in range(1, 500):
        counter = Counter(store)
        assert counter.take() <= (boot - 1) * 64
        for _ in range(4):
            counter.take()
    writes = store.writes
    for _ in range(100000):
        counter.take()
    assert store.writes - writes < 100000 // 1024 + 10


def test_an_sos_is_sent_from_a_full_device():
    wearer = SosHarness()
    wearer.files.full = 0
    wearer.outbox._files.full = 0
    wearer.store.fault = ENOSPC
    for i in range(32):
        event_id = wearer.sos.press(i)
        assert event_id is not None
        assert drain(wearer.events)
        assert wearer.answer(event_id, RECEIVED) == ["sos %d received" % event_id]
    assert wearer.events.acknowledged == 32 and not len(wearer.events)


def test_an_sos_without_a_counter_is_sent_when_storage_works_again():
    wearer = SosHarness()
    wearer.store.fault = EIO
    while take(wearer.sos._reporter._counter, True) is not None:
        pass
    assert wearer.sos.press(0) is None
    shown = len(wearer.lines)
    assert wearer.sos.press(0) is None and len(wearer.lines) == shown and "sos not sent" in wearer.lines[-1]
    wearer.sos.poll(5000)
    wearer.store.fault = 0
    sent = len(wearer.events)
    wearer.sos.poll(5500)
    assert len(wearer.events) == sent
    wearer.sos.poll(6000)
    assert len(wearer.events) == sent + 1 and wearer.lines[-1].endswith(" sent")
    wearer.sos.poll(20000)
    assert len(wearer.events) == sent + 1


def test_messages_without_a_counter_are_counted_and_not_stored():
    wearer = SosHarness()
    wearer.store.fault = ENOSPC
    reporter = wearer.sos._reporter
    for _ in range(100):
        reporter.send(m.DEVICE_STATUS, STATUS)
    assert reporter.unsealed + reporter.frames == 100 and reporter.unsealed > 30
    assert reporter.raise_event(enums.EVENT_KIND_SOS, enums.EVENT_CAUSE_BUTTON, 1, 0) is not None


def test_commands_need_a_stored_counter_and_answers_to_events_do_not():
    wearer = SosHarness()
    received = []
    wearer.downlink.add_handlers({m.TIME_SYNC: received.append})
    event_id = wearer.sos.press(0)
    wearer.store.fault = ENOSPC
    assert wearer.answer(event_id, RESOLVED) == ["sos %d resolved" % event_id]
    buf = bytearray(256)
    end = codec.encode_into(m.TIME_SYNC, {"originate_ms": 1}, buf, frame.HEADER_BYTES)
    n = wearer.hub.seal_into(buf, m.TIME_SYNC, wearer.hub_counter + 1, end)
    wearer.downlink.receive(bytes(buf[:n]))
    assert received == [] and wearer.log[-1] == "hub: frame rejected (storage refuses its counter)"
    wearer.store.fault = 0
    n = wearer.hub.seal_into(buf, m.TIME_SYNC, wearer.hub_counter + 2, end)
    wearer.downlink.receive(bytes(buf[:n]))
    assert len(received) == 1


def test_an_answered_event_that_cannot_be_removed_is_not_sent_again():
    files = MemoryFiles()
    clock = Clock()
    events = EventQueue(files, clock.now_ms)
    events.put(event(7, 7), 7)
    drain(events)
    files.fault = EIO
    assert events.remove(7) == 1 and events.faults == 1
    for _ in range(148):
        clock.ms += 600000
        events.retry_all()
        assert drain(events) == []
    files.fault = 0
    events.retry_all()
    assert files.names() == []


def test_removals_are_retried_and_bounded():
    files = MemoryFiles()
    removal = Removal(files)
    files.fault = EIO
    for i in range(100):
        files.data["f%d" % i] = bytearray(1)
        assert not removal.remove("f%d" % i)
    files.fault = 0
    assert removal.retry() and len(files.names()) == 100 - 32
    assert removal.remove("f99") and removal.remove("missing")


def test_a_queue_of_events_starts_on_storage_that_cannot_be_read():
    files = MemoryFiles()
    files.fault = EIO
    events = EventQueue(files, lambda: 0)
    assert events.faults == 1 and events.put(event(1, 1), 1) and drain(events) == [event(1, 1)]


def test_a_granted_ssrc_that_cannot_be_stored_is_not_used():
    store = MemoryStore()
    grants = GrantLog(store)
    assert grants.add(5)
    store.fault = ENOSPC
    assert not grants.add(6) and not grants.add(1 << 27)
    store.fault = 0
    assert grants.add(6) and not GrantLog(store).add(6) and grants.add(1 << 27)


def test_ssrcs_that_a_hub_restarts_after_the_highest_one_are_used():
    store = MemoryStore()
    top = (1 << 27) - 1
    grants = GrantLog(store)
    assert grants.add(top) and grants.add(3)
    for log in (grants, GrantLog(store)):
        assert not log.add(top) and not log.add(3) and not log.add(2)
    assert GrantLog(store).add(4)


def test_a_counter_on_storage_that_is_full_at_power_on_goes_on_when_there_is_space():
    for earlier in (0, 1, 40):
        store = MemoryStore()
        used = [Counter(store).take() for _ in range(earlier)]
        store.fault = ENOSPC
        counter = Counter(store)
        assert take(counter, False) is None and take(counter, True) is None
        store.fault = 0
        value = counter.take()
        assert value not in used and value >= max(used or [0]) and Counter(store).take() > value, earlier


def test_a_datagram_without_an_index_is_not_protected():
    def refuse():
        raise OSError(ENOSPC)

    context = SrtcpContext(aes.encrypter, lambda label: (bytes(16), bytes(14)), refuse)
    assert context.protect(bytes(8)) is None


def test_a_status_text_is_sent_from_a_full_device():
    wearer = SosHarness()
    ids = Record(wearer.store, "text")
    texts = StatusTexts(["on site"], ids, wearer.sos._reporter, wearer.retry_now)
    texts.send(b"1", 0)
    wearer.store.fault = ENOSPC
    texts.send(b"1", 0)
    numbers = []
    for data in drain(wearer.outbox):
        kind, _, body, _ = frame.Channel(KEY, b"dev-1").open_frame(data)
        numbers.append(decode.decode(kind, body)["text_id"])
    assert numbers == [1, 2] and ids.second == 1


def test_reporter_counts_what_it_cannot_seal():
    store = MemoryStore()
    counter = Counter(store)
    store.fault = ENOSPC
    channel = frame.Channel(KEY, b"dev-1")
    events = EventQueue(MemoryFiles(), lambda: 0)
    outbox = SosHarness().outbox
    config = {"batch_fixes": 1, "batch_s": 60}
    reporter = Reporter(channel, counter, outbox, events, config, lambda: enums.UNKNOWN, DeviceClock())
    for i in range(200):
        reporter.on_fix(fix(i), 1000 * i)
    assert reporter.unsealed and reporter.unsealed + len(outbox) == 200
