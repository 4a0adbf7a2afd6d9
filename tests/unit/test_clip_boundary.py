"""Begin and end of clips with random segment lengths, frame rates, jitter and trigger times."""

from agent.recording import clip_index
from clip_harness import EPOCH_MS, ClipHarness
from seeded_random import seeded


def add_jitter(harness, below, jitter):
    """Shift the capture times of the camera by up to `jitter` ms in both directions."""
    frame = harness.camera.frame

    def jittery_frame():
        picture = frame()
        if picture is not None:
            harness.camera.shift_next(below(2 * jitter + 1) - jitter)
        return picture

    harness.camera.frame = jittery_frame
    return harness


def segment_spans(harness, number):
    """Return (begin, end) of each segment of a clip, monotonic ms."""
    out = []
    for line in harness.segments(number):
        start = line["start_ms"] - EPOCH_MS - harness.past_ms
        out.append((start, start + line["ms"]))
    return out


def check_span(harness, seed, number, trigger, hold):
    """Check begin and end of a clip, and that it has every frame between them."""
    config = harness.config
    pre, longest_ms = config["pre_s"] * 1000, max([line["ms"] for line in harness.segments(number)])
    files = segment_spans(harness, number)
    begin_ms = max(0, trigger - pre)
    # The clip begins at least pre_s before the trigger. Its second file begins later, so no file is superfluous.
    assert files[0][0] <= begin_ms or not [ms for n, ms in harness.camera.captured if ms < files[0][0]], (
        seed,
        files[0],
        begin_ms,
    )
    assert files[0][0] >= begin_ms - longest_ms, (seed, files[0], begin_ms, longest_ms)
    assert len(files) == 1 or files[1][0] > trigger - pre, (seed, files[:2], trigger - pre)
    assert trigger + hold <= files[-1][1] <= trigger + hold + 100, (seed, files[-1], trigger + hold)
    expected = [n for n, ms in harness.camera.captured if files[0][0] <= ms <= files[-1][1]]
    assert harness.pictures(number) == expected, seed
    assert harness.ring_recorder.loss.total == 0, seed


def test_a_clip_begins_at_most_one_segment_before_pre_s():
    for seed in range(1, 41):
        below = seeded(seed)
        fps = (1, 2, 5, 10, 15)[below(5)]
        config = {"segment_s": 1 + below(12), "pre_s": (0, 1, 3, 10, 30, 120)[below(6)], "post_s": 1 + below(20)}
        config["quota_kb"] = config["lock_kb"] = 32768
        harness = ClipHarness(config, 200, fps).boot()
        add_jitter(harness, below, 400 // fps)
        at = (below(1000), 1000 * below(30), 1000 * (config["pre_s"] + below(60)))[below(3)]
        harness.run(at / 1000)
        trigger = harness.now
        number = harness.recorder.trigger(below(5), 1, "", trigger)
        harness.run(config["post_s"] + config["segment_s"] + 3)
        check_span(harness, seed, number, trigger, config["post_s"] * 1000)
        # A second event at a random time after the first one.
        harness.run(below(20))
        trigger = harness.now
        number = harness.recorder.trigger(below(5), 1, "", trigger)
        harness.run(config["post_s"] + config["segment_s"] + 3)
        check_span(harness, seed, number, trigger, config["post_s"] * 1000)


def test_a_clip_with_pre_s_of_zero_begins_with_the_current_segment():
    harness = ClipHarness({"pre_s": 0, "segment_s": 60}, 100).boot().run(200)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(20)
    assert 140000 < segment_spans(harness, number)[0][0] < 200000


def test_overlapping_events_make_one_clip_that_covers_all_of_them():
    for seed in range(1, 13):
        below = seeded(seed)
        harness = add_jitter(ClipHarness({"quota_kb": 16384, "lock_kb": 16384}, 200).boot(), below, 80).run(
            20 + below(9)
        )
        first = trigger = harness.now
        number = harness.recorder.trigger(0, 1, "", first)
        for event in range(2, 6):
            harness.run(below(9))
            trigger = harness.now
            assert harness.recorder.trigger(below(5), event, "", trigger) == number, seed
        harness.run(20)
        files = segment_spans(harness, number)
        assert files[0][0] <= first - 10000 and trigger + 10000 <= files[-1][1] <= trigger + 10100, seed
        assert [s["event"] for s in harness.manifest(number) if "mark" in s] == [1, 2, 3, 4, 5], seed
        marks = sum([len([r for r in harness.read(s["seg"] + ".pls").of_kind(4)]) for s in harness.segments(number)])
        assert marks == 5 and len(harness.sealed) == 1, seed


def test_a_hundred_presses_extend_one_clip_with_a_bounded_number_of_marks():
    harness = ClipHarness({"lock_kb": 4096}).boot().run(20)
    numbers = [harness.recorder.trigger(0, i, "", harness.now) for i in range(100)]
    harness.run(1)
    for i in range(100):
        numbers.append(harness.recorder.trigger(0, 100 + i, "", harness.now))
        harness.run(0.1)
    harness.run(30)
    assert set(numbers) == {1} and len(harness.sealed) == 1
    marks = [s["event"] for s in harness.manifest(1) if "mark" in s]
    (lost,) = [s["lines"] for s in harness.manifest(1) if s.get("access") == "lost"]
    assert marks == list(range(len(marks) - 100)) + list(range(100, 200)) and len(marks) + lost == 200
    assert clip_index.SEALED == harness.store.index.find(1).state and harness.ring_recorder.loss.total == 0
