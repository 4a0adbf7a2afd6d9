"""Full, read-only, missing, slow or damaged storage: the recorder reports it and continues without an exception."""

import patrolink_enums as enums
from clip_harness import ClipHarness
from memory_storage import MemoryFiles
from patrolink_protocol import clip
from seeded_random import seeded

FULL, FAULT = enums.DEVICE_STATUS_ERRORS_STORAGE_FULL, enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT
ENOSPC, EIO, EROFS, ENOENT = 28, 5, 30, 2


def checked_segments(harness, number):
    """Return the segment lines of a sealed clip, after checking them against the files."""
    lines = harness.manifest(number)
    assert "sig" in lines[-1] and [s for s in lines if "close" in s] == [lines[-2]]
    segments = harness.segments(number)
    names = [s["seg"] for s in segments]
    assert names == sorted(set(names))
    for s in segments:
        assert harness.read(s["seg"] + ".pls").complete == s["whole"], s
    return segments


def test_recording_continues_after_a_storage_fault():
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
        segments = checked_segments(harness, clip_number)
        lost = sum([s["lost"] for s in segments])
        assert 15 <= lost <= 30 and harness.ring_recorder.loss.total == lost, (number, lost)
        assert len([s for s in segments if not s["whole"]]) <= 2, number
        # Frames before and after the fault are recorded.
        numbers = harness.pictures(clip_number)
        assert numbers[0] <= 50 and numbers[-1] >= 145, number
        next_number = harness.recorder.trigger(0, 2, "", harness.now)
        harness.run(30)
        assert harness.manifest(next_number)[0]["previous"] == harness.manifest(clip_number)[-1]["chain"]


def test_a_clip_that_ends_during_a_storage_fault_has_the_reason_storage():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(5)
    harness.files.fault = EIO
    harness.run(10)
    harness.files.fault = 0
    harness.run(10)
    assert checked_segments(harness, number) and harness.manifest(number)[-2]["close"] == "storage"


def run_random_faults(seed):
    """Return a harness after random storage faults. With an odd seed storage is slow too."""
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


def test_random_storage_faults_are_recovered_from():
    for seed in range(1, 25):
        harness = run_random_faults(seed)
        try:
            assert not harness.ring_recorder.errors
            previous = None
            for number in sorted([int(n[:6]) for n in harness.files.data if n[-4:] == ".plm"]):
                checked_segments(harness, number)
                head = harness.manifest(number)[0]
                assert previous in (None, head["previous"]), number
                previous = harness.manifest(number)[-1]["chain"]
            harness.files.behind = None
            harness.boot().run(30)
            assert not harness.ring_recorder.errors
        except Exception:
            print("seed", seed)
            raise


def test_a_full_file_system_is_reported_and_recovered_from():
    harness = ClipHarness().boot().run(20)
    harness.files.full = sum([len(d) for d in harness.files.data.values()]) + 30000
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(40)
    assert harness.ring_recorder.errors & (FULL | FAULT)
    harness.files.full = None
    harness.run(30)
    assert harness.ring_recorder.errors == 0 and checked_segments(harness, number)


def test_slow_storage_loses_no_frame():
    harness = ClipHarness(size=4000, fps=10).boot()
    harness.files.behind = []
    harness.run(20, lambda: harness.files.work(1))
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(15)  # storage carries out no operation
    harness.run(40, lambda: harness.files.work(3))
    assert harness.ring_recorder.loss.total == 0 and harness.ring_recorder.errors == 0
    segments = checked_segments(harness, number)
    assert [s["whole"] for s in segments] == [True] * len(segments)


def test_too_slow_storage_loses_frames_and_uses_bounded_memory():
    harness = ClipHarness(size=4000, fps=10).boot()
    harness.ring_recorder._backlog_max = 200000
    harness.files.behind = []
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(60)
    queued_bytes = sum([len(args[1] or b"") for _, args in harness.files.behind if len(args) == 2])
    assert 200000 < queued_bytes < 240000
    harness.files.work(1 << 30)
    harness.run(20, lambda: harness.files.work(1 << 30))
    assert harness.ring_recorder.loss.total > 100
    gaps = 0
    for name in [n for n in harness.files.data if n[-4:] == ".pls"]:
        for _, _, body in harness.read(name).of_kind(clip.RECORD_GAP):
            gaps += body[2] == clip.GAP_STORAGE_LATE
    assert gaps and checked_segments(harness, number)


def test_recording_continues_with_a_damaged_journal_or_manifest():
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


def test_empty_storage_begins_a_new_chain_with_the_next_number():
    harness = ClipHarness().boot().run(20)
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(30)
    harness.files = MemoryFiles()
    harness.boot().run(20)
    assert harness.recorder.trigger(0, 1, "", harness.now) == 2
    harness.run(20)
    assert harness.manifest(2)[0]["previous"] == "00" * 32


def test_overhead_on_storage_is_at_most_three_percent():
    harness = ClipHarness(size=4000).boot().run(100)
    video = harness.ring_recorder.frames * 4000
    assert harness.files.written < video * 1.03, (harness.files.written, video)
