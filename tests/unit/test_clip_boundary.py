"""Where a clip begins and ends: at random segments, paces, jitters and triggers, to the frame."""

from agent.recording import clip_index
from clip_harness import EPOCH_MS, World
from seeded_random import seeded


def jittery(world, below, jitter):
    """No camera keeps a perfect pace, and no loop comes at the same time."""
    frame = world.camera.frame

    def late():
        got = frame()
        if got is not None:
            world.camera._due += below(2 * jitter + 1) - jitter
        return got

    world.camera.frame = late
    return world


def files_of(world, number):
    """Return [(monotonic ms of its start, of its end)] of a clip's segments."""
    out = []
    for said in world.segments(number):
        start = said["start_ms"] - EPOCH_MS - world.past
        out.append((start, start + said["ms"]))
    return out


def check(world, seed, number, trigger, hold):
    config = world.config
    pre, longest = config["pre_s"] * 1000, max([said["ms"] for said in world.segments(number)])
    files = files_of(world, number)
    began = max(0, trigger - pre)
    # It begins at or before pre_s before the trigger, and the second file does not: not one more than is needed.
    assert files[0][0] <= began or not [ms for n, ms in world.camera.given if ms < files[0][0]], (seed, files[0], began)
    assert files[0][0] >= began - longest, (seed, files[0], began, longest)
    assert len(files) == 1 or files[1][0] > trigger - pre, (seed, files[:2], trigger - pre)
    assert trigger + hold <= files[-1][1] <= trigger + hold + 100, (seed, files[-1], trigger + hold)
    wanted = [n for n, ms in world.camera.given if files[0][0] <= ms <= files[-1][1]]
    assert world.pictures(number) == wanted, seed
    assert world.recorder.lost == 0, seed


def test_a_clip_begins_no_later_and_no_more_than_a_segment_earlier_than_it_should():
    for seed in range(1, 41):
        below = seeded(seed)
        fps = (1, 2, 5, 10, 15)[below(5)]
        config = {"segment_s": 1 + below(12), "pre_s": (0, 1, 3, 10, 30, 120)[below(6)], "post_s": 1 + below(20)}
        config["quota_kb"] = config["lock_kb"] = 32768
        world = World(config, 200, fps).boot()
        jittery(world, below, 400 // fps)
        at = (below(1000), 1000 * below(30), 1000 * (config["pre_s"] + below(60)))[below(3)]
        world.run(at / 1000)
        trigger = world.now
        number = world.recorder.trigger(below(5), 1, "", trigger)
        world.run(config["post_s"] + config["segment_s"] + 3)
        check(world, seed, number, trigger, config["post_s"] * 1000)
        # One more, at any moment after it.
        world.run(below(20))
        trigger = world.now
        number = world.recorder.trigger(below(5), 1, "", trigger)
        world.run(config["post_s"] + config["segment_s"] + 3)
        check(world, seed, number, trigger, config["post_s"] * 1000)


def test_nothing_before_an_event_is_kept_where_the_site_wants_nothing():
    world = World({"pre_s": 0, "segment_s": 60}, 100).boot().run(200)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(20)
    assert 140000 < files_of(world, number)[0][0] < 200000


def test_events_that_overlap_are_one_clip_with_all_that_each_wants():
    for seed in range(1, 13):
        below = seeded(seed)
        world = jittery(World({"quota_kb": 16384, "lock_kb": 16384}, 200).boot(), below, 80).run(20 + below(9))
        first = trigger = world.now
        number = world.recorder.trigger(0, 1, "", first)
        for event in range(2, 6):
            world.run(below(9))
            trigger = world.now
            assert world.recorder.trigger(below(5), event, "", trigger) == number, seed
        world.run(20)
        files = files_of(world, number)
        assert files[0][0] <= first - 10000 and trigger + 10000 <= files[-1][1] <= trigger + 10100, seed
        assert [s["event"] for s in world.manifest(number) if "mark" in s] == [1, 2, 3, 4, 5], seed
        marks = sum([len([r for r in world.read(s["seg"] + ".pls").of(4)]) for s in world.segments(number)])
        assert marks == 5 and len(world.sealed) == 1, seed


def test_a_hundred_presses_are_a_hundred_marks_in_one_clip():
    world = World({"lock_kb": 4096}).boot().run(20)
    numbers = [world.recorder.trigger(0, i, "", world.now) for i in range(100)]
    world.run(1)
    for i in range(100):
        numbers.append(world.recorder.trigger(0, 100 + i, "", world.now))
        world.run(0.1)
    world.run(30)
    assert set(numbers) == {1} and len(world.sealed) == 1
    marks = [s["event"] for s in world.manifest(1) if "mark" in s]
    (lost,) = [s["lines"] for s in world.manifest(1) if s.get("access") == "lost"]
    assert marks == list(range(len(marks) - 100)) + list(range(100, 200)) and len(marks) + lost == 200
    assert clip_index.KEPT == world.shelf.find(1).state and world.recorder.lost == 0
