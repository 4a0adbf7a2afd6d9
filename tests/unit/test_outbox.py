import patrolink_messages as m
from agent.link.outbox import Outbox
from memory_storage import MemoryFiles, PowerCut
from seeded_random import seeded


def routine(i, n=20):
    return bytes([0x20 | m.POSITION_BATCH, i >> 8, i & 255]) + bytes([i & 255] * n)


def urgent(i, n=20):
    return bytes([0x20 | m.EVENT, i >> 8, i & 255]) + bytes([i & 255] * n)


def drain(box):
    out = []
    while True:
        frame = box.peek()
        if frame is None:
            return out
        out.append(bytes(frame))
        box.acknowledge()


def test_in_order_and_kept_until_done():
    box = Outbox(MemoryFiles(), 10000, 100)
    for i in range(20):
        assert box.put(routine(i))
    assert len(box) == 20
    assert bytes(box.peek()) == bytes(box.peek()) == routine(0)
    box.acknowledge()
    assert drain(box) == [routine(i) for i in range(1, 20)] and len(box) == 0 and box.peek() is None


def test_what_is_urgent_overtakes():
    box = Outbox(MemoryFiles(), 10000, 100)
    for i in range(9):
        box.put(routine(i))
    box.peek()
    box.put(urgent(99))
    box.acknowledge()
    assert drain(box)[:2] == [urgent(99), routine(1)]


def test_a_restart_finds_what_was_not_done():
    files = MemoryFiles()
    box = Outbox(files, 10000, 100)
    for i in range(12):
        box.put(routine(i))
    for _ in range(5):
        box.peek()
        box.acknowledge()
    again = Outbox(files, 10000, 100)
    got = drain(again)
    assert got[-7:] == [routine(i) for i in range(5, 12)] and len(got) <= 7 + 3
    assert again.bytes <= 100


def test_a_planned_end_leaves_nothing():
    files = MemoryFiles()
    box = Outbox(files, 10000, 100)
    for i in range(5):
        box.put(routine(i))
    drain(box)
    box.close()
    assert files.data == {} and box.bytes == 0


def test_nothing_piles_up():
    files = MemoryFiles()
    box = Outbox(files, 10000, 200)
    for i in range(1000):
        box.put(routine(i))
        assert drain(box) == [routine(i)]
        assert sum([len(d) for d in files.data.values()]) <= 400


def test_a_full_outbox_gets_coarser_oldest_first_and_keeps_events():
    files = MemoryFiles()
    box = Outbox(files, 3000, 300)
    kept = []
    for i in range(400):
        if i % 40 == 7:
            kept.append(urgent(i))
            assert box.put(urgent(i))
        box.put(routine(i))
        assert box.bytes == sum([len(d) for d in files.data.values()]) <= 3000 + 31 * len(kept)
    got = drain(box)
    assert got[: len(kept)] == kept
    rest = [f[1] << 8 | f[2] for f in got[len(kept) :]]
    assert rest == sorted(rest) and box.dropped == 400 - len(rest)
    assert rest[-1] == 399 and rest[-5:] == [395, 396, 397, 398, 399]
    gaps = [b - a for a, b in zip(rest, rest[1:])]
    assert max(gaps[len(gaps) // 2 :]) <= max(gaps[: len(gaps) // 2])


def test_storage_that_is_full_is_counted_and_outlived():
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
    got = drain(box)
    assert got[0] == urgent(1) and len(got) == stored + 1


def test_damage_costs_what_is_damaged():
    """A flipped bit anywhere: no wrong frame comes out, later segments do."""
    for at in range(0, 93, 1):
        files = MemoryFiles()
        box = Outbox(files, 10000, 93)
        for i in range(9):
            box.put(routine(i))
        name = sorted(files.names())[0]
        files.data[name][at] ^= 1 << (at % 8)
        got = drain(Outbox(files, 10000, 93))
        assert all([f in [routine(i) for i in range(9)] for f in got])
        assert got[-6:] == [routine(i) for i in range(3, 9)], at


def test_files_of_a_newer_version_and_strangers_do_no_harm():
    files = MemoryFiles()
    files.data["b00000003"] = bytearray(b"\xa6\x01\x00\x05hello")
    files.data["t"] = bytearray(b"half a thinning")
    files.data["readme"] = bytearray(b"not ours")
    files.data["a0000000x"[:5]] = bytearray()
    box = Outbox(files, 10000, 100)
    assert len(box) == 0
    box.put(routine(1))
    assert drain(box) == [routine(1)] and "readme" in files.data


def life(files, seed, quota):
    """Seeded: frames in, some out. Return (frames that put took, frames acknowledged), filled as it goes."""
    below = seeded(seed)
    took = []
    acknowledged = []

    def live():
        box = Outbox(files, quota, 150)
        for i in range(60):
            frame = urgent(i, below(30)) if below(8) == 0 else routine(i, below(30))
            if box.put(frame):
                took.append(frame)
            for _ in range(below(3)):
                got = box.peek()
                if got is not None:
                    acknowledged.append(bytes(got))
                    box.acknowledge()

    return took, acknowledged, live


def check_cut(seed, cut, quota=1500):
    """Cut a life after so many operations and restart. Return (it ended before, frames taken that never came out).

    Nothing comes out that never went in, and nothing urgent is missing; without a quota that bites, nothing is.
    """
    files = MemoryFiles()
    took, acknowledged, live = life(files, seed, quota)
    files.left = cut
    ended = True
    try:
        live()
    except PowerCut:
        ended = False
    files.left = None
    again = drain(Outbox(files, quota, 150))
    for frame in again:
        assert frame[0] & 31 in (m.EVENT, m.POSITION_BATCH), (seed, cut)
        assert frame[2:] == bytes([frame[2]] * (len(frame) - 2)), (seed, cut)
    out = acknowledged + again
    missing = [frame for frame in took if frame not in out]
    assert all([frame[0] & 31 == m.POSITION_BATCH for frame in missing]), (seed, cut)
    return ended, missing


def test_power_cut_at_every_operation():
    for seed, quota in ((1, 700), (2, 1 << 20)):
        cut = 0
        while True:
            ended, missing = check_cut(seed, cut, quota)
            if ended:
                break
            assert quota == 700 or not missing, (seed, cut)
            cut += 1
        assert cut > 1000


def test_power_cuts_without_a_quota_lose_nothing_at_all():
    for seed in range(3, 40):
        below = seeded(seed)
        files = MemoryFiles()
        took = []
        out = []
        i = 0
        for _ in range(12):
            files.left = below(900)
            try:
                box = Outbox(files, 1 << 20, 150)
                while True:
                    i += 1
                    frame = urgent(i, below(30)) if below(8) == 0 else routine(i, below(30))
                    if box.put(frame):
                        took.append(frame)
                    if below(3) == 0 and box.peek() is not None:
                        out.append(bytes(box.peek()))
                        box.acknowledge()
            except PowerCut:
                files.left = None
        out += drain(Outbox(files, 1 << 20, 150))
        assert all([frame in out for frame in took]), seed


def test_segments_of_a_later_version_are_left_alone():
    files = MemoryFiles()
    first = Outbox(files, 1 << 16, 200)
    frames = [bytes([m.POSITION_BATCH]) + bytes(60) + bytes([i]) for i in range(9)]
    for frame in frames:
        assert first.put(frame)
    names = sorted(files.names())
    assert len(names) >= 3
    later = bytes(files.data[names[1]])
    files.data[names[1]][1] = 7
    kept = bytes(files.data[names[1]])
    again = Outbox(files, 1 << 16, 200)
    got = []
    while len(again):
        frame = again.peek()
        if frame is None:
            break
        got.append(bytes(frame))
        again.acknowledge()
    again.close()
    assert got == [f for f in frames if f not in later] and again.foreign == 1
    assert files.names() == [names[1]] and bytes(files.data[names[1]]) == kept
    # After an upgrade it is read.
    files.data[names[1]][1] = 0
    upgraded = Outbox(files, 1 << 16, 200)
    assert len(upgraded) == len(frames) - len(got)
