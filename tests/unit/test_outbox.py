"""Outbox: order of lanes, restarts, quota, full or damaged storage, power cuts."""

import struct

import patrolink_messages as m
from agent.link.outbox import Outbox
from memory_storage import MemoryFiles, PowerCut, drain
from seeded_random import seeded


def message(kind, counter, n):
    return bytes([0x20 | kind]) + struct.pack(">I", counter) + bytes([counter & 255] * n)


def routine(i, n=18):
    return message(m.POSITION_BATCH, i, n)


def urgent(i, n=18):
    return message(m.EVENT, i, n)


def status(i, n=18):
    return message(m.DEVICE_STATUS, i, n)


def number(frame):
    return struct.unpack_from(">I", frame, 1)[0]


def test_frames_are_in_order_and_stored_until_acknowledged():
    box = Outbox(MemoryFiles(), 10000, 100)
    for i in range(20):
        assert box.put(routine(i))
    assert len(box) == 20
    assert bytes(box.peek()) == bytes(box.peek()) == routine(0)
    box.acknowledge()
    assert drain(box) == [routine(i) for i in range(1, 20)] and len(box) == 0 and box.peek() is None


def test_events_are_delivered_before_positions():
    box = Outbox(MemoryFiles(), 10000, 100)
    for i in range(9):
        box.put(routine(i))
    box.peek()
    box.put(urgent(99))
    box.acknowledge()
    assert drain(box)[:2] == [urgent(99), routine(1)]


def test_restart_delivers_unacknowledged_frames():
    files = MemoryFiles()
    box = Outbox(files, 10000, 100)
    for i in range(12):
        box.put(routine(i))
    for _ in range(5):
        box.peek()
        box.acknowledge()
    restarted = Outbox(files, 10000, 100)
    frames = drain(restarted)
    # At most one segment of each of the five lanes is sent again.
    assert frames[-7:] == [routine(i) for i in range(5, 12)] and len(frames) <= 7 + 5
    assert restarted.bytes <= 5 * 100


def test_close_of_an_empty_outbox_leaves_no_files():
    files = MemoryFiles()
    box = Outbox(files, 10000, 100)
    for i in range(5):
        box.put(routine(i))
    drain(box)
    box.close()
    assert files.data == {} and box.bytes == 0


def test_storage_use_does_not_grow():
    files = MemoryFiles()
    box = Outbox(files, 10000, 200)
    for i in range(1000):
        box.put(routine(i))
        assert drain(box) == [routine(i)]
        assert sum([len(d) for d in files.data.values()]) <= 400


def test_full_outbox_thins_the_oldest_positions_and_no_events():
    files = MemoryFiles()
    box = Outbox(files, 3000, 300)
    events = []
    for i in range(400):
        if i % 40 == 7:
            events.append(urgent(i))
            assert box.put(urgent(i))
        box.put(routine(i))
        assert box.bytes == sum([len(d) for d in files.data.values()]) <= 3000 + 31 * len(events)
    frames = drain(box)
    assert frames[: len(events)] == events
    numbers = [number(f) for f in frames[len(events) :]]
    assert numbers == sorted(numbers) and box.dropped == 400 - len(numbers)
    assert numbers[-1] == 399 and numbers[-5:] == [395, 396, 397, 398, 399]
    gaps = [b - a for a, b in zip(numbers, numbers[1:])]
    assert max(gaps[len(gaps) // 2 :]) <= max(gaps[: len(gaps) // 2])


def test_full_storage_is_counted_and_recovered_from():
    files = MemoryFiles()
    box = Outbox(files, 100000, 200)
    files.full = 500
    for i in range(40):
        box.put(routine(i))
    assert box.faults and box.dropped
    stored = 40 - box.dropped
    assert len(box) == stored
    files.full = None
    assert box.put(urgent(1))
    frames = drain(box)
    assert frames[0] == urgent(1) and len(frames) == stored + 1


def test_damage_is_limited_to_its_segment():
    """Any flipped bit: no damaged frame is delivered, and frames of later segments are."""
    for at in range(93):
        files = MemoryFiles()
        box = Outbox(files, 10000, 93)
        for i in range(9):
            box.put(urgent(i))
        name = sorted(files.names())[0]
        files.data[name][at] ^= 1 << (at % 8)
        frames = drain(Outbox(files, 10000, 93))
        assert all([f in [urgent(i) for i in range(9)] for f in frames])
        assert frames[-6:] == [urgent(i) for i in range(3, 9)], at


def test_foreign_files_are_ignored():
    files = MemoryFiles()
    files.data["b00000003"] = bytearray(b"\xa6\x01\x00\x05hello")
    files.data["readme"] = bytearray(b"foreign")
    files.data["a0000000x"[:5]] = bytearray()
    box = Outbox(files, 10000, 100)
    assert len(box) == 0
    box.put(routine(1))
    assert drain(box) == [routine(1)] and "readme" in files.data


def make_run(files, seed, quota):
    """Return (frames that were put, frames that were acknowledged, run); run() fills the two lists at random."""
    below = seeded(seed)
    stored = []
    acknowledged = []

    def run():
        box = Outbox(files, quota, 150)
        for i in range(60):
            frame = urgent(i, below(30)) if below(8) == 0 else routine(i, below(30))
            if box.put(frame):
                stored.append(frame)
            for _ in range(below(3)):
                sent = box.peek()
                if sent is not None:
                    acknowledged.append(bytes(sent))
                    box.acknowledge()

    return stored, acknowledged, run


def check_cut(seed, cut, quota=1500):
    """Cut the power of a run after `cut` operations, restart, and check the frames.

    Every delivered frame is intact, and no event is missing.

    Returns:
        (whether the run ended before the cut, frames that were put and not delivered). Without a quota that limits the
        run, no frame may be missing.
    """
    files = MemoryFiles()
    stored, acknowledged, run = make_run(files, seed, quota)
    files.left = cut
    ended = True
    try:
        run()
    except PowerCut:
        ended = False
    files.left = None
    remaining = drain(Outbox(files, quota, 150))
    for frame in remaining:
        assert frame[0] & 31 in (m.EVENT, m.POSITION_BATCH), (seed, cut)
        assert frame[5:] == bytes([frame[4]] * (len(frame) - 5)), (seed, cut)
    delivered = acknowledged + remaining
    missing = [frame for frame in stored if frame not in delivered]
    assert all([frame[0] & 31 == m.POSITION_BATCH for frame in missing]), (seed, cut)
    return ended, missing


def test_power_cut_at_every_operation_loses_no_event():
    for seed, quota in ((1, 700), (2, 1 << 20)):
        cut = 0
        while True:
            ended, missing = check_cut(seed, cut, quota)
            if ended:
                break
            assert quota == 700 or not missing, (seed, cut)
            cut += 1
        assert cut > 1000


def test_power_cuts_without_a_quota_lose_no_frame():
    for seed in range(3, 40):
        below = seeded(seed)
        files = MemoryFiles()
        stored = []
        delivered = []
        i = 0
        for _ in range(12):
            files.left = below(900)
            try:
                box = Outbox(files, 1 << 20, 150)
                while True:
                    i += 1
                    frame = urgent(i, below(30)) if below(8) == 0 else routine(i, below(30))
                    if box.put(frame):
                        stored.append(frame)
                    if below(3) == 0 and box.peek() is not None:
                        delivered.append(bytes(box.peek()))
                        box.acknowledge()
            except PowerCut:
                files.left = None
        delivered += drain(Outbox(files, 1 << 20, 150))
        assert all([frame in delivered for frame in stored]), seed


def test_frames_of_a_boot_are_sent_again_by_the_next_one_only():
    files = MemoryFiles()
    for boot in range(20):
        box = Outbox(files, 1 << 16)
        repeated = []
        while len(box):
            repeated.append(bytes(box.peek()))
            box.acknowledge()
        assert repeated == ([urgent(boot - 1)] if boot else [])
        box.put(urgent(boot))
        box.peek()
        box.acknowledge()


def test_segments_of_a_later_version_are_preserved():
    files = MemoryFiles()
    first = Outbox(files, 1 << 16, 200)
    frames = [urgent(i, 57) for i in range(9)]
    for frame in frames:
        assert first.put(frame)
    names = sorted(files.names())
    assert len(names) >= 3
    later = bytes(files.data[names[1]])
    files.data[names[1]][1] = 7
    original = bytes(files.data[names[1]])
    restarted = Outbox(files, 1 << 16, 200)
    delivered = []
    while len(restarted):
        frame = restarted.peek()
        if frame is None:
            break
        delivered.append(bytes(frame))
        restarted.acknowledge()
    restarted.close()
    assert delivered == [f for f in frames if f not in later] and restarted.foreign == 1
    assert files.names() == [names[1]] and bytes(files.data[names[1]]) == original
    # A version that supports the segment reads it.
    files.data[names[1]][1] = 0
    upgraded = Outbox(files, 1 << 16, 200)
    assert len(upgraded) == len(frames) - len(delivered)
