"""Outbox short of space: what is thinned, what stays, what is written, and that every frame is accounted for."""

import patrolink_messages as m
from agent.link.outbox import Outbox
from memory_storage import MemoryFiles, PowerCut, drain
from patrolink_protocol.replay import ReplayWindow
from seeded_random import seeded
from test_outbox import number, routine, status, urgent

SEGMENT = 512


def numbers(frames, kind=m.POSITION_BATCH):
    return [number(f) for f in frames if f[0] & 31 == kind]


def test_newest_batches_stay_whole_and_older_ones_with_growing_gaps():
    files = MemoryFiles()
    box = Outbox(files, 16384, SEGMENT)
    n = 4000
    for i in range(n):
        assert box.put(routine(2 * i))
        assert box.put(status(2 * i + 1))
        assert box.bytes == sum([len(d) for d in files.data.values()]) <= 16384
    written = files.written
    frames = drain(box)
    batches = [i // 2 for i in numbers(frames)]
    assert batches == sorted(batches) and box.thinned == 2 * n - len(frames)
    assert box.dropped == n - len(batches)
    whole = 16384 // 31 // 5
    assert batches[-whole:] == list(range(n - whole, n))
    gaps = [b - a for a, b in zip(batches, batches[1:])]
    assert max(gaps) == 8 and max(gaps[-whole * 2 :]) <= 2
    statuses = numbers(frames, m.DEVICE_STATUS)
    assert statuses[-1] == 2 * n - 1 and 4 <= len(statuses) <= 8 and statuses[-1] - statuses[0] == 2 * len(statuses) - 2
    # Nothing is rewritten.
    assert written == 2 * n * 31


def test_without_a_backlog_one_file_is_used():
    files = MemoryFiles()
    box = Outbox(files, 16384, SEGMENT)
    for i in range(1000):
        box.put(routine(i))
        assert drain(box) == [routine(i)]
        assert len(files.names()) <= 2
    assert box.thinned == 0


def test_statuses_are_thinned_but_not_reported_as_dropped():
    box = Outbox(MemoryFiles(), 16384, SEGMENT)
    for i in range(100):
        assert box.put(status(i))
    assert box.dropped == 0 and box.thinned == 100 - len(box)


def test_old_frames_make_room_when_storage_is_full():
    files = MemoryFiles()
    box = Outbox(files, 1 << 20, SEGMENT)
    files.full = 4000
    for i in range(400):
        assert box.put(routine(i))
    assert box.put(urgent(400))
    assert box.thinned == box.dropped > 0
    frames = drain(box)
    assert frames[0] == urgent(400) and numbers(frames)[-20:] == list(range(380, 400))


def test_a_frame_thinned_while_it_is_sent_is_counted_once():
    box = Outbox(MemoryFiles(), 2000, 100)
    accepted = [routine(i) for i in range(60)]
    for frame in accepted:
        assert box.put(frame)
    sent = bytes(box.peek())
    thinned = box.thinned
    for i in range(60, 120):
        accepted.append(routine(i))
        assert box.put(accepted[-1])
    assert box.thinned > thinned
    box.acknowledge()
    frames = drain(box)
    assert len(frames) == len(accepted) - box.thinned and sent not in frames


def test_restarts_add_no_files():
    files = MemoryFiles()
    frames = []
    for boot in range(100):
        box = Outbox(files, 1 << 20, SEGMENT)
        for i in range(3):
            frames.append(routine(4 * boot + i))
            assert box.put(frames[-1])
        assert box.put(urgent(4 * boot + 3))
    assert len(files.names()) < len(frames) * 4 // 3 * 31 // SEGMENT + 8
    assert numbers(drain(Outbox(files, 1 << 20, SEGMENT))) == [number(f) for f in frames]


def test_every_accepted_frame_is_delivered_or_counted_as_thinned():
    for seed in range(60):
        below = seeded(seed)
        files = MemoryFiles()
        box = Outbox(files, 600 + below(4000), 100 + below(300))
        accepted = []
        delivered = []
        for i in range(300):
            make = (routine, routine, status, urgent)[below(4)]
            frame = make(i, below(40))
            if below(60) == 0:
                files.full = sum([len(d) for d in files.data.values()]) + below(100)
            elif below(10) == 0:
                files.full = None
            if box.put(frame):
                accepted.append(frame)
            else:
                assert files.full is not None or make is not urgent, seed
            for _ in range(below(40) if below(30) == 0 else below(2)):
                if box.peek() is not None:
                    delivered.append(bytes(box.peek()))
                    box.acknowledge()
        files.full = None
        remaining = drain(box)
        delivered += remaining
        missing = [f for f in accepted if f not in delivered]
        # A frame thinned while it was sent may have been delivered; here none is.
        assert len(delivered) == len(accepted) - box.thinned and len(missing) == box.thinned, seed
        assert all([f[0] & 31 != m.EVENT for f in missing]), seed
        assert len(box) == 0 and box.peek() is None, seed


def test_power_cuts_while_thinning_lose_only_what_is_counted():
    """The newest accepted routine frame survives, events survive, and no more frames are missing than were thinned."""
    for seed in range(40):
        below = seeded(1000 + seed)
        files = MemoryFiles()
        accepted = []
        thinned = 0
        i = 0
        for _ in range(8):
            files.left = below(4000)
            box = None
            try:
                box = Outbox(files, 1500, 200)
                while True:
                    i += 1
                    frame = (routine, routine, status, urgent if below(8) == 0 else routine)[below(4)](i, below(30))
                    if box.put(frame):
                        accepted.append(frame)
            except PowerCut:
                files.left = None
                thinned += box.thinned if box is not None else 0
        frames = drain(Outbox(files, 1500, 200))
        missing = [f for f in accepted if f not in frames]
        assert len(missing) <= thinned, seed
        assert all([f[0] & 31 != m.EVENT for f in missing]), seed
        newest = [f for f in accepted if f[0] & 31 == m.POSITION_BATCH][-1]
        assert newest in frames, seed


def test_frames_beyond_the_replay_window_are_thinned_and_none_is_refused():
    """Random gaps between counters, as boots leave them; an event that is sent first must not outdate the backlog."""
    for seed in range(40):
        below = seeded(seed)
        files = MemoryFiles()
        box = Outbox(files, 1 << 20, SEGMENT)
        accepted = 0
        thinned = 0
        counter = 0
        for _ in range(150):
            counter += 1 + (below(3000) if below(3) == 0 else 0)
            if below(20) == 0:
                thinned += box.thinned
                box = Outbox(files, 1 << 20, SEGMENT)
            accepted += box.put((routine, urgent, status)[below(3)](counter))
        window = ReplayWindow(m.REPLAY_WINDOW)
        assert window.accept(counter + 1000) == window.NEW
        frames = drain(box)
        assert len(frames) == accepted - thinned - box.thinned, seed
        for frame in frames:
            assert window.accept(number(frame)) == window.NEW, seed
