"""A recording whose camera, microphone or storage goes away for long: it ends as it should and says why."""

from agent.recording.recorder import FOREVER, RefusedError
from clip_harness import World
from seeded_random import seeded

EIO = 5
CAMERA, MICROPHONE, FAULT = 32, 64, 8


def hold(world):
    """The wearer presses `record`."""
    number = world.recorder.trigger(0, 0, "wearer", world.now)
    world.recorder.held = True
    return number


def closes(world):
    """Return how the clips that are sealed ended."""
    told = [world.manifest(number) for number in sorted([int(n[:6]) for n in world.files.data if n[-4:] == ".plm"])]
    return [said[-2]["close"] for said in told if "sig" in said[-1]]


def test_a_camera_that_dies_ends_the_clip_as_one_that_the_camera_ended():
    world = World({"sound": "event"}).boot().run(20)
    number = world.recorder.trigger(1, 1, "", world.now)
    world.run(2)
    assert world.ears.opened and not world.recorder.errors
    world.camera.stalled = True
    world.run(7)
    assert world.recorder.errors == CAMERA
    world.run(20)
    assert closes(world) == ["camera"] and world.sealed[0]["clip_id"] == number
    assert not world.ears.opened  # nobody records: nobody hears
    world.camera.stalled = False
    world.run(5)
    assert not world.recorder.errors and world.recorder.lost > 100


def test_a_long_recording_whose_camera_dies_is_sealed_within_ten_minutes():
    world = World(size=400, fps=2).boot().run(20)
    world.recorder.trigger(3, 1, "duty", world.now, FOREVER)
    world.run(30)
    world.camera.stalled = True
    world.run(600)
    assert closes(world) == ["camera"] and world.sealed[0]["duration_ms"] > 30000
    world.camera.stalled = False
    world.run(20)
    world.recorder.stop("duty", world.now)
    world.run(20)
    assert closes(world)[-1] == "done" and world.pictures(2)
    assert world.manifest(2)[0]["follows"] == 1


def test_events_while_storage_is_gone_for_hours_take_no_more_memory():
    for number in (EIO, 30):
        world = World({"post_s": 5}, fps=1).boot().run(20)
        files, world.files.fault = world.files, number
        numbers = set()
        for i in range(80):
            numbers.add(world.recorder.trigger(i % 5, i, "", world.now))
            world.run(15)
            world.camera.given.clear()  # on MicroPython they would lie all over the heap
            assert len(world.shelf.writing) <= 8 and world.recorder.errors & FAULT
        assert len(numbers) <= 8
        for writing in world.shelf.writing:
            assert len(writing.manifest._unsaved) <= 70
        live = world.recorder.trigger(1, 1000, "", world.now, 20000)
        world.run(2)
        files.fault = 0
        world.run(60)
        assert not world.recorder.errors and not world.shelf.writing
        said = world.manifest(live)
        assert world.shelf.find(live).sos and [s for s in said if s.get("access") == "lost" or s.get("event") == 1000]
        # What was filmed once storage was back is there: the SOS had still 18 s to go.
        after = [v for v in world.sealed if v["clip_id"] >= live]
        assert [v["trigger"] for v in after] == [1] * len(after)
        assert sum([len(world.pictures(v["clip_id"])) for v in after]) >= 12
        assert world.recorder.trigger(0, 1, "", world.now) == after[-1]["clip_id"] + 1


def test_a_live_sos_is_kept_when_storage_comes_back_as_another_card():
    world = World().boot().run(20)
    world.files.fault = EIO
    world.run(3)
    world.recorder.trigger(1, 1, "", world.now, 60000)
    world.run(5)
    world.files.data.clear()
    world.files.fault = 0
    world.run(80)
    assert not world.recorder.errors and len(world.pictures_there(1)) > 200
    assert "sig" in world.manifest(1)[-1]


def test_a_picture_beside_a_clip_is_made_once_however_long_storage_refuses():
    world = World().boot().run(20)
    made = []
    world.recorder._jpeg = lambda picture: made.append(1) or bytes(picture)
    world.files.fault = EIO
    world.run(2)
    world.recorder.trigger(0, 1, "", world.now)
    world.run(8)
    assert len(made) <= 9  # storage is asked once a second; a JPEG of 640 x 480 takes ms
    world.run(8)
    world.files.fault = 0
    made.clear()
    world.run(10)
    assert made == [] and not [s for s in world.manifest(1) if "thumb" in s]  # its clip is over


def test_the_wearer_ends_what_the_wearer_began_and_nothing_else():
    world = World({"lock_kb": 4096}).boot().run(20)
    number = world.recorder.trigger(3, 1, "duty", world.now, 60000)
    world.run(5)
    assert hold(world) == number and world.recorder.held
    world.run(5)
    assert world.recorder.release("wearer", world.now) == number and not world.recorder.held
    world.run(44)
    assert not world.sealed
    world.run(15)
    assert len(world.sealed) == 1 and world.sealed[0]["duration_ms"] >= 70000
    # And as long as the wearer holds it, it goes on; a dispatcher may end it.
    number = hold(world)
    world.run(100)
    assert len(world.sealed) == 1 and world.recorder.held
    assert world.recorder.stop("duty", world.now) == number and not world.recorder.held
    world.run(20)
    assert len(world.sealed) == 2
    assert world.recorder.release("wearer", world.now) is None and world.recorder.stop("duty", world.now) is None
    who = [(s["access"], s["who"]) for n in (1, 2) for s in world.manifest(n) if "access" in s]
    assert who == [("recording_start", "duty"), ("recording_start", "wearer"), ("recording_stop", "wearer")] + [
        ("recording_start", "wearer"),
        ("recording_stop", "duty"),
    ]


def test_a_long_recording_takes_no_clip_more_than_it_may():
    """At lock_kb a recording that is no SOS goes on in no further clip."""
    world = World({"lock_kb": 512}, size=1000, fps=2).boot().run(20)
    hold(world)
    world.run(1300)
    assert closes(world) == ["storage"] and not world.recorder.held
    try:
        hold(world)
        raise AssertionError("it was taken")
    except RefusedError:
        pass
    assert world.recorder.frames > 2600  # the ring goes on


def test_a_microphone_that_cannot_be_opened_is_told_while_it_is_wanted():
    world = World({"sound": "event"}).boot().run(20)
    world.ears.open = lambda: False
    assert not world.recorder.errors
    world.recorder.trigger(0, 1, "", world.now)
    world.run(4)
    assert world.recorder.errors == MICROPHONE
    world.run(30)
    assert not world.recorder.errors and len(world.sealed) == 1


def press(world, what, below):
    """Somebody wants something; a refusal is an answer."""
    recorder = world.recorder
    try:
        if what < 3:
            recorder.trigger(below(5), 1, "", world.now)
        elif what == 3:
            hold(world)
        elif what == 4:
            recorder.release("wearer", world.now)
        elif what == 5:
            recorder.snapshot("duty", world.now)
        elif what == 6:
            recorder.stop("duty", world.now)
    except RefusedError:
        pass


def troubled(seed):
    """Return a world in which everything went wrong at random, and then nothing for a minute."""
    below = seeded(seed)
    world = World({"sound": ("event", "always", "never")[below(3)], "post_s": 4}).boot()
    if seed % 2:
        world.files.behind = []
    for _ in range(40):
        world.files.fault = 0 if below(4) else EIO
        world.camera.stalled = below(5) == 0
        world.camera.broken = below(7) == 0
        press(world, below(8), below)
        world.run(below(6), lambda: world.files.work(below(4)))
    world.files.fault = 0
    world.camera.stalled = world.camera.broken = False
    world.recorder.stop("duty", world.now)
    return world.run(60, lambda: world.files.work(20))


def test_troubles_of_all_kinds_at_random_stop_nothing():
    for seed in range(1, 25):
        try:
            world = troubled(seed)
            assert not world.recorder.errors and not world.shelf.writing
            for said in [world.manifest(int(n[:6])) for n in world.files.data if n[-4:] == ".plm"]:
                assert "sig" in said[-1] and [s for s in said if "close" in s] == [said[-2]]
            if seed % 3 == 0:
                world.files.behind = None
                world.boot().run(5)
                assert not world.recorder.errors
        except Exception:
            print("seed", seed)
            raise


def test_a_snapshot_that_finds_no_storage_leaves_the_clip_that_goes_on_alone():
    world = World({"lock_kb": 4096}).boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now, 30000)
    world.run(2)
    taken = []
    world.files.fault = EIO
    world.run(3)
    world.recorder.snapshot("duty", world.now, taken.append)
    world.run(2)
    world.files.fault = 0
    world.run(40)
    assert taken == [None] and [v["clip_id"] for v in world.sealed] == [number]


def test_what_is_larger_than_a_record_holds_is_no_picture():
    world = World({"quota_kb": 65536, "lock_kb": 65536}).boot().run(7)

    class Giant:
        """2^24 bytes that nobody has to have."""

        def __len__(self):
            return 1 << 24

        def __getitem__(self, i):
            return {0: 0xFF, 1: 0xD8, (1 << 24) - 2: 0xFF, (1 << 24) - 1: 0xD9}[i]

    frame = world.camera.frame
    world.camera.frame = lambda: (Giant(), world.now, None) if frame() else None
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(2)
    world.run(1)
    world.camera.frame = frame
    world.run(20)
    assert world.sealed[0]["clip_id"] == number and world.recorder.lost == 15
    jpeg = world.recorder._jpeg
    world.recorder._jpeg = lambda picture: Giant()  # of a picture that is an array
    taken = []
    world.recorder.snapshot("duty", world.now, taken.append)
    world.run(2)
    world.recorder._jpeg = jpeg
    assert taken == [None] and not world.recorder.errors


def test_more_frames_than_a_gap_counts_are_all_told():
    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.camera.dropped += 200000
    world.run(20)
    told = [b for s in world.segments(number) for _, _, b in world.read(s["seg"] + ".pls").of(5)]
    assert sum([body[0] << 8 | body[1] for body in told]) == 200000 == world.recorder.lost
    assert sum([s["lost"] for s in world.segments(number)]) == 200000


def test_frames_that_the_loop_lost_at_a_boundary_are_no_fault_of_storage():
    world = World(size=400, fps=2).boot().run(20)
    world.recorder.trigger(3, 1, "duty", world.now, FOREVER)

    def each():
        world.camera.dropped += world.now % 5000 == 0

    world.run(700, each)
    assert closes(world) == ["done"]
