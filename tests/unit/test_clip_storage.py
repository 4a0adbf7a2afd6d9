"""Storage that is full, read-only, gone, slow or damaged under a recorder: it tells, raises nothing, and goes on."""

from clip_harness import World
from memory_storage import MemoryFiles
from patrolink_protocol import clip
from seeded_random import seeded

FULL, FAULT = 4, 8
ENOSPC, EIO, EROFS, ENOENT = 28, 5, 30, 2


def checked(world, number):
    """Return the segments of a clip that is sealed; each is as its line says."""
    said = world.manifest(number)
    assert "sig" in said[-1] and [s for s in said if "close" in s] == [said[-2]]
    segments = world.segments(number)
    names = [s["seg"] for s in segments]
    assert names == sorted(set(names))
    for s in segments:
        assert world.read(s["seg"] + ".pls").whole == s["whole"], s
    return segments


def test_storage_that_refuses_for_a_while():
    for number in (EIO, EROFS, ENOENT, ENOSPC):
        world = World().boot().run(20)
        clip_number = world.recorder.trigger(0, 1, "", world.now)
        world.run(3)
        world.files.fault = number
        world.run(4)
        assert world.recorder.errors & FAULT, number
        world.files.fault = 0
        world.run(30)
        assert world.recorder.errors == 0, number
        segments = checked(world, clip_number)
        lost = sum([s["lost"] for s in segments])
        assert 15 <= lost <= 30 and world.recorder.lost == lost, (number, lost)
        assert len([s for s in segments if not s["whole"]]) <= 2, number
        # What came before and after the fault is there.
        numbers = world.pictures(clip_number)
        assert numbers[0] <= 50 and numbers[-1] >= 145, number
        again = world.recorder.trigger(0, 2, "", world.now)
        world.run(30)
        assert world.manifest(again)[0]["previous"] == world.manifest(clip_number)[-1]["chain"]


def test_a_clip_that_ends_while_storage_refuses_says_so():
    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(5)
    world.files.fault = EIO
    world.run(10)
    world.files.fault = 0
    world.run(10)
    assert checked(world, number) and world.manifest(number)[-2]["close"] == "storage"


def troubled(seed):
    """Return a world whose storage refused at random moments, and was late in every second one."""
    below = seeded(seed)
    world = World().boot()
    if seed % 2:
        world.files.behind = []
    for _ in range(30):
        world.files.fault = 0 if below(3) else EIO
        world.run(1 + below(4), lambda: world.files.work(below(3)))
        if below(5) == 0:
            world.recorder.trigger(below(2), 1, "", world.now)
    world.files.fault = 0
    world.run(60, lambda: world.files.work(9))
    return world


def test_storage_that_refuses_at_random_moments():
    for seed in range(1, 25):
        world = troubled(seed)
        try:
            assert not world.recorder.errors
            previous = None
            for number in sorted([int(n[:6]) for n in world.files.data if n[-4:] == ".plm"]):
                checked(world, number)
                head = world.manifest(number)[0]
                assert previous in (None, head["previous"]), number
                previous = world.manifest(number)[-1]["chain"]
            world.files.behind = None
            world.boot().run(30)
            assert not world.recorder.errors
        except Exception:
            print("seed", seed)
            raise


def test_a_file_system_that_is_full():
    world = World().boot().run(20)
    world.files.full = sum([len(d) for d in world.files.data.values()]) + 30000
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(40)
    assert world.recorder.errors & (FULL | FAULT)
    world.files.full = None
    world.run(30)
    assert world.recorder.errors == 0 and checked(world, number)


def test_slow_storage_stops_nothing_and_loses_nothing_that_it_gets_to():
    world = World(size=4000, fps=10).boot()
    world.files.behind = []
    world.run(20, lambda: world.files.work(1))
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(15)  # no order is carried out at all
    world.run(40, lambda: world.files.work(3))
    assert world.recorder.lost == 0 and world.recorder.errors == 0
    segments = checked(world, number)
    assert [s["whole"] for s in segments] == [True] * len(segments)


def test_storage_that_is_too_slow_costs_pictures_and_no_more_memory():
    world = World(size=4000, fps=10).boot()
    world.recorder._behind = 200000
    world.files.behind = []
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(60)
    waiting = sum([len(given[1] or b"") for _, given in world.files.behind if len(given) == 2])
    assert 200000 < waiting < 240000
    world.files.work(1 << 30)
    world.run(20, lambda: world.files.work(1 << 30))
    assert world.recorder.lost > 100
    gaps = 0
    for name in [n for n in world.files.data if n[-4:] == ".pls"]:
        for _, _, body in world.read(name).of(clip.GAP):
            gaps += body[2] == clip.LATE
    assert gaps and checked(world, number)


def test_a_damaged_journal_or_manifest_stops_nothing():
    for seed in range(1, 40):
        below = seeded(seed)
        world = World().boot().run(20)
        world.recorder.trigger(0, 1, "", world.now)
        world.run(4 + 4 * below(6))
        name = sorted([n for n in world.files.data if n[-4:] == ".plm" or n[:5] == "state"])[below(2)]
        data = world.files.data[name]
        for _ in range(1 + below(3)):
            data[below(len(data))] = below(256)
        try:
            world.boot().run(20)
            number = world.recorder.trigger(1, 1, "", world.now)
            world.run(30)
            assert "sig" in world.manifest(number)[-1], seed
        except Exception:
            print("seed", seed)
            raise


def test_a_new_card_begins_a_new_chain_with_a_new_number():
    world = World().boot().run(20)
    world.recorder.trigger(0, 1, "", world.now)
    world.run(30)
    world.files = MemoryFiles()
    world.boot().run(20)
    assert world.recorder.trigger(0, 1, "", world.now) == 2
    world.run(20)
    assert world.manifest(2)[0]["previous"] == "00" * 32


def test_bytes_written_are_those_of_the_video_and_little_else():
    world = World(size=4000).boot().run(100)
    video = world.recorder.frames * 4000
    assert world.files.written < video * 1.03, (world.files.written, video)
