"""A recording whose camera, microphone or storage goes away for long: it ends as it should and says why."""

from agent.recording.clip_recorder import UNTIL_STOPPED, RefusedError
from clip_harness import ClipHarness
from seeded_random import seeded

EIO = 5
CAMERA, MICROPHONE, FAULT = 32, 64, 8


def hold(harness):
    """The wearer presses `record`."""
    number = harness.recorder.trigger(0, 0, "wearer", harness.now)
    harness.recorder.hold()
    return number


def closes(harness):
    """Return how the clips that are sealed ended."""
    told = [harness.manifest(number) for number in sorted([int(n[:6]) for n in harness.files.data if n[-4:] == ".plm"])]
    return [said[-2]["close"] for said in told if "sig" in said[-1]]


def test_a_camera_that_dies_ends_the_clip_as_one_that_the_camera_ended():
    harness = ClipHarness({"sound": "event"}).boot().run(20)
    number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(2)
    assert harness.microphone.opened and not harness.ring_recorder.errors
    harness.camera.stalled = True
    harness.run(7)
    assert harness.ring_recorder.errors == CAMERA
    harness.run(20)
    assert closes(harness) == ["camera"] and harness.sealed[0]["clip_id"] == number
    assert not harness.microphone.opened  # nobody records: nobody hears
    harness.camera.stalled = False
    harness.run(5)
    assert not harness.ring_recorder.errors and harness.ring_recorder.loss.total > 100


def test_a_long_recording_whose_camera_dies_is_sealed_within_ten_minutes():
    harness = ClipHarness(size=400, fps=2).boot().run(20)
    harness.recorder.trigger(3, 1, "duty", harness.now, UNTIL_STOPPED)
    harness.run(30)
    harness.camera.stalled = True
    harness.run(600)
    assert closes(harness) == ["camera"] and harness.sealed[0]["duration_ms"] > 30000
    harness.camera.stalled = False
    harness.run(20)
    harness.recorder.stop("duty", harness.now)
    harness.run(20)
    assert closes(harness)[-1] == "done" and harness.pictures(2)
    assert harness.manifest(2)[0]["follows"] == 1


def test_events_while_storage_is_gone_for_hours_take_no_more_memory():
    for number in (EIO, 30):
        harness = ClipHarness({"post_s": 5}, fps=1).boot().run(20)
        files, harness.files.fault = harness.files, number
        numbers = set()
        for i in range(80):
            numbers.add(harness.recorder.trigger(i % 5, i, "", harness.now))
            harness.run(15)
            harness.camera.taken.clear()  # on MicroPython they would lie all over the heap
            assert len(harness.store.open_clips) <= 8 and harness.ring_recorder.errors & FAULT
        assert len(numbers) <= 8
        for writing in harness.store.open_clips._clips:
            assert len(writing.manifest._pending) <= 70
        live = harness.recorder.trigger(1, 1000, "", harness.now, 20000)
        harness.run(2)
        files.fault = 0
        harness.run(60)
        assert not harness.ring_recorder.errors and not harness.store.open_clips
        said = harness.manifest(live)
        assert harness.store.index.find(live).sos and [
            s for s in said if s.get("access") == "lost" or s.get("event") == 1000
        ]
        # What was filmed once storage was back is there: the SOS had still 18 s to go.
        after = [v for v in harness.sealed if v["clip_id"] >= live]
        assert [v["trigger"] for v in after] == [1] * len(after)
        assert sum([len(harness.pictures(v["clip_id"])) for v in after]) >= 12
        assert harness.recorder.trigger(0, 1, "", harness.now) == after[-1]["clip_id"] + 1


def test_a_live_sos_is_kept_when_storage_comes_back_as_another_card():
    harness = ClipHarness().boot().run(20)
    harness.files.fault = EIO
    harness.run(3)
    harness.recorder.trigger(1, 1, "", harness.now, 60000)
    harness.run(5)
    harness.files.data.clear()
    harness.files.fault = 0
    harness.run(80)
    assert not harness.ring_recorder.errors and len(harness.stored_pictures(1)) > 200
    assert "sig" in harness.manifest(1)[-1]


def test_a_picture_beside_a_clip_is_made_once_however_long_storage_refuses():
    harness = ClipHarness().boot().run(20)
    made = []
    harness.ring_recorder._jpeg = lambda picture: made.append(1) or bytes(picture)
    harness.files.fault = EIO
    harness.run(2)
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(8)
    assert len(made) <= 9  # storage is asked once a second; a JPEG of 640 x 480 takes ms
    harness.run(8)
    harness.files.fault = 0
    made.clear()
    harness.run(10)
    assert made == [] and not [s for s in harness.manifest(1) if "thumb" in s]  # its clip is over


def test_the_wearer_ends_what_the_wearer_began_and_nothing_else():
    harness = ClipHarness({"lock_kb": 4096}).boot().run(20)
    number = harness.recorder.trigger(3, 1, "duty", harness.now, 60000)
    harness.run(5)
    assert hold(harness) == number and harness.recorder.held
    harness.run(5)
    assert harness.recorder.release("wearer", harness.now) == number and not harness.recorder.held
    harness.run(44)
    assert not harness.sealed
    harness.run(15)
    assert len(harness.sealed) == 1 and harness.sealed[0]["duration_ms"] >= 70000
    # And as long as the wearer holds it, it goes on; a dispatcher may end it.
    number = hold(harness)
    harness.run(100)
    assert len(harness.sealed) == 1 and harness.recorder.held
    assert harness.recorder.stop("duty", harness.now) == number and not harness.recorder.held
    harness.run(20)
    assert len(harness.sealed) == 2
    assert (
        harness.recorder.release("wearer", harness.now) is None and harness.recorder.stop("duty", harness.now) is None
    )
    who = [(s["access"], s["who"]) for n in (1, 2) for s in harness.manifest(n) if "access" in s]
    assert who == [("recording_start", "duty"), ("recording_start", "wearer"), ("recording_stop", "wearer")] + [
        ("recording_start", "wearer"),
        ("recording_stop", "duty"),
    ]


def test_a_long_recording_takes_no_clip_more_than_it_may():
    """At lock_kb a recording that is no SOS goes on in no further clip."""
    harness = ClipHarness({"lock_kb": 512}, size=1000, fps=2).boot().run(20)
    hold(harness)
    harness.run(1300)
    assert closes(harness) == ["storage"] and not harness.recorder.held
    try:
        hold(harness)
        raise AssertionError("it was taken")
    except RefusedError:
        pass
    assert harness.ring_recorder.frames > 2600  # the ring goes on


def test_a_microphone_that_cannot_be_opened_is_told_while_it_is_wanted():
    harness = ClipHarness({"sound": "event"}).boot().run(20)
    harness.microphone.open = lambda: False
    assert not harness.ring_recorder.errors
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(4)
    assert harness.ring_recorder.errors == MICROPHONE
    harness.run(30)
    assert not harness.ring_recorder.errors and len(harness.sealed) == 1


def press(harness, what, below):
    """Somebody wants something; a refusal is an answer."""
    recorder = harness.recorder
    try:
        if what < 3:
            recorder.trigger(below(5), 1, "", harness.now)
        elif what == 3:
            hold(harness)
        elif what == 4:
            recorder.release("wearer", harness.now)
        elif what == 5:
            recorder.snapshot("duty", harness.now)
        elif what == 6:
            recorder.stop("duty", harness.now)
    except RefusedError:
        pass


def troubled(seed):
    """Return a harness in which everything went wrong at random, and then nothing for a minute."""
    below = seeded(seed)
    harness = ClipHarness({"sound": ("event", "always", "never")[below(3)], "post_s": 4}).boot()
    if seed % 2:
        harness.files.behind = []
    for _ in range(40):
        harness.files.fault = 0 if below(4) else EIO
        harness.camera.stalled = below(5) == 0
        harness.camera.broken = below(7) == 0
        press(harness, below(8), below)
        harness.run(below(6), lambda: harness.files.work(below(4)))
    harness.files.fault = 0
    harness.camera.stalled = harness.camera.broken = False
    harness.recorder.stop("duty", harness.now)
    return harness.run(60, lambda: harness.files.work(20))


def test_troubles_of_all_kinds_at_random_stop_nothing():
    for seed in range(1, 25):
        try:
            harness = troubled(seed)
            assert not harness.ring_recorder.errors and not harness.store.open_clips
            for said in [harness.manifest(int(n[:6])) for n in harness.files.data if n[-4:] == ".plm"]:
                assert "sig" in said[-1] and [s for s in said if "close" in s] == [said[-2]]
            if seed % 3 == 0:
                harness.files.behind = None
                harness.boot().run(5)
                assert not harness.ring_recorder.errors
        except Exception:
            print("seed", seed)
            raise


def test_a_snapshot_that_finds_no_storage_leaves_the_clip_that_goes_on_alone():
    harness = ClipHarness({"lock_kb": 4096}).boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now, 30000)
    harness.run(2)
    taken = []
    harness.files.fault = EIO
    harness.run(3)
    harness.recorder.snapshot("duty", harness.now, taken.append)
    harness.run(2)
    harness.files.fault = 0
    harness.run(40)
    assert taken == [None] and [v["clip_id"] for v in harness.sealed] == [number]


def test_what_is_larger_than_a_record_holds_is_no_picture():
    harness = ClipHarness({"quota_kb": 65536, "lock_kb": 65536}).boot().run(7)

    class Giant:
        """2^24 bytes that nobody has to have."""

        def __len__(self):
            return 1 << 24

        def __getitem__(self, i):
            return {0: 0xFF, 1: 0xD8, (1 << 24) - 2: 0xFF, (1 << 24) - 1: 0xD9}[i]

    frame = harness.camera.frame
    harness.camera.frame = lambda: (Giant(), harness.now, None) if frame() else None
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(2)
    harness.run(1)
    harness.camera.frame = frame
    harness.run(20)
    assert harness.sealed[0]["clip_id"] == number and harness.ring_recorder.loss.total == 15
    jpeg = harness.ring_recorder._jpeg
    harness.ring_recorder._jpeg = lambda picture: Giant()  # of a picture that is an array
    taken = []
    harness.recorder.snapshot("duty", harness.now, taken.append)
    harness.run(2)
    harness.ring_recorder._jpeg = jpeg
    assert taken == [None] and not harness.ring_recorder.errors


def test_more_frames_than_a_gap_counts_are_all_told():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.camera.dropped += 200000
    harness.run(20)
    told = [b for s in harness.segments(number) for _, _, b in harness.read(s["seg"] + ".pls").of_kind(5)]
    assert sum([body[0] << 8 | body[1] for body in told]) == 200000 == harness.ring_recorder.loss.total
    assert sum([s["lost"] for s in harness.segments(number)]) == 200000


def test_frames_that_the_loop_lost_at_a_boundary_are_no_fault_of_storage():
    harness = ClipHarness(size=400, fps=2).boot().run(20)
    harness.recorder.trigger(3, 1, "duty", harness.now, UNTIL_STOPPED)

    def each():
        harness.camera.dropped += harness.now % 5000 == 0

    harness.run(700, each)
    assert closes(harness) == ["done"]
