"""Storage that is full, read-only, gone, slow or damaged under a recorder: it tells, raises nothing, and goes on."""

from clip_harness import ClipHarness
from memory_storage import MemoryFiles
from patrolink_protocol import clip
from seeded_random import seeded

FULL, FAULT = 4, 8
ENOSPC, EIO, EROFS, ENOENT = 28, 5, 30, 2


def checked(harness, number):
    """Return the segments of a clip that is sealed; each is as its line says."""
    said = harness.manifest(number)
    assert "sig" in said[-1] and [s for s in said if "close" in s] == [said[-2]]
    segments = harness.segments(number)
    names = [s["seg"] for s in segments]
    assert names == sorted(set(names))
    for s in segments:
        assert harness.read(s["seg"] + ".pls").complete == s["whole"], s
    return segments


def test_storage_that_refuses_for_a_while():
    for number in (EIO, EROFS, ENOENT, ENOSPC):
        harness = ClipHarness().boot().run(20)
        clip_number = harness.recorder.trigger(0, 1, "", harness.now)
        harness.run(3)
        harness.files.fault = number
        harness.run(4)
        assert harness.ring_recorder.errors & FAULT, number
        harness.files.fault = 0
        harness.run(30)
        assert harness.ring_recorder.errors == 0, number
        segments = checked(harness, clip_number)
        lost = sum([s["lost"] for s in segments])
        assert 15 <= lost <= 30 and harness.ring_recorder.loss.total == lost, (number, lost)
        assert len([s for s in segments if not s["whole"]]) <= 2, number
        # What came before and after the fault is there.
        numbers = harness.pictures(clip_number)
        assert numbers[0] <= 50 and numbers[-1] >= 145, number
        again = harness.recorder.trigger(0, 2, "", harness.now)
        harness.run(30)
        assert harness.manifest(again)[0]["previous"] == harness.manifest(clip_number)[-1]["chain"]


def test_a_clip_that_ends_while_storage_refuses_says_so():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(5)
    harness.files.fault = EIO
    harness.run(10)
    harness.files.fault = 0
    harness.run(10)
    assert checked(harness, number) and harness.manifest(number)[-2]["close"] == "storage"


def troubled(seed):
    """Return a harness whose storage refused at random moments, and was late in every second one."""
    below = seeded(seed)
    harness = ClipHarness().boot()
    if seed % 2:
        harness.files.behind = []
    for _ in range(30):
        harness.files.fault = 0 if below(3) else EIO
        harness.run(1 + below(4), lambda: harness.files.work(below(3)))
        if below(5) == 0:
            harness.recorder.trigger(below(2), 1, "", harness.now)
    harness.files.fault = 0
    harness.run(60, lambda: harness.files.work(9))
    return harness


def test_storage_that_refuses_at_random_moments():
    for seed in range(1, 25):
        harness = troubled(seed)
        try:
            assert not harness.ring_recorder.errors
            previous = None
            for number in sorted([int(n[:6]) for n in harness.files.data if n[-4:] == ".plm"]):
                checked(harness, number)
                head = harness.manifest(number)[0]
                assert previous in (None, head["previous"]), number
                previous = harness.manifest(number)[-1]["chain"]
            harness.files.behind = None
            harness.boot().run(30)
            assert not harness.ring_recorder.errors
        except Exception:
            print("seed", seed)
            raise


def test_a_file_system_that_is_full():
    harness = ClipHarness().boot().run(20)
    harness.files.full = sum([len(d) for d in harness.files.data.values()]) + 30000
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(40)
    assert harness.ring_recorder.errors & (FULL | FAULT)
    harness.files.full = None
    harness.run(30)
    assert harness.ring_recorder.errors == 0 and checked(harness, number)


def test_slow_storage_stops_nothing_and_loses_nothing_that_it_gets_to():
    harness = ClipHarness(size=4000, fps=10).boot()
    harness.files.behind = []
    harness.run(20, lambda: harness.files.work(1))
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(15)  # no order is carried out at all
    harness.run(40, lambda: harness.files.work(3))
    assert harness.ring_recorder.loss.total == 0 and harness.ring_recorder.errors == 0
    segments = checked(harness, number)
    assert [s["whole"] for s in segments] == [True] * len(segments)


def test_storage_that_is_too_slow_costs_pictures_and_no_more_memory():
    harness = ClipHarness(size=4000, fps=10).boot()
    harness.ring_recorder._backlog_max = 200000
    harness.files.behind = []
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(60)
    waiting = sum([len(given[1] or b"") for _, given in harness.files.behind if len(given) == 2])
    assert 200000 < waiting < 240000
    harness.files.work(1 << 30)
    harness.run(20, lambda: harness.files.work(1 << 30))
    assert harness.ring_recorder.loss.total > 100
    gaps = 0
    for name in [n for n in harness.files.data if n[-4:] == ".pls"]:
        for _, _, body in harness.read(name).of_kind(clip.RECORD_GAP):
            gaps += body[2] == clip.GAP_STORAGE_LATE
    assert gaps and checked(harness, number)


def test_a_damaged_journal_or_manifest_stops_nothing():
    for seed in range(1, 40):
        below = seeded(seed)
        harness = ClipHarness().boot().run(20)
        harness.recorder.trigger(0, 1, "", harness.now)
        harness.run(4 + 4 * below(6))
        name = sorted([n for n in harness.files.data if n[-4:] == ".plm" or n[:5] == "state"])[below(2)]
        data = harness.files.data[name]
        for _ in range(1 + below(3)):
            data[below(len(data))] = below(256)
        try:
            harness.boot().run(20)
            number = harness.recorder.trigger(1, 1, "", harness.now)
            harness.run(30)
            assert "sig" in harness.manifest(number)[-1], seed
        except Exception:
            print("seed", seed)
            raise


def test_a_new_card_begins_a_new_chain_with_a_new_number():
    harness = ClipHarness().boot().run(20)
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(30)
    harness.files = MemoryFiles()
    harness.boot().run(20)
    assert harness.recorder.trigger(0, 1, "", harness.now) == 2
    harness.run(20)
    assert harness.manifest(2)[0]["previous"] == "00" * 32


def test_bytes_written_are_those_of_the_video_and_little_else():
    harness = ClipHarness(size=4000).boot().run(100)
    video = harness.ring_recorder.frames * 4000
    assert harness.files.written < video * 1.03, (harness.files.written, video)
