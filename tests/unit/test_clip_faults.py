"""Faults of camera, microphone and storage during a recording: how it ends, and its close reason."""

import patrolink_enums as enums
from agent.recording.clip_recorder import UNTIL_STOPPED, RefusedError
from clip_harness import ClipHarness
from seeded_random import seeded

EIO = 5
CAMERA = enums.DEVICE_STATUS_ERRORS_CAMERA_FAULT
MICROPHONE = enums.DEVICE_STATUS_ERRORS_MICROPHONE_FAULT
FAULT = enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT


def press_record(harness):
    """Press the `record` button."""
    number = harness.recorder.trigger(0, 0, "wearer", harness.now)
    harness.recorder.hold()
    return number


def close_reasons(harness):
    """Return the close reasons of the sealed clips, in order."""
    manifests = [
        harness.manifest(number) for number in sorted([int(n[:6]) for n in harness.files.data if n[-4:] == ".plm"])
    ]
    return [lines[-2]["close"] for lines in manifests if "sig" in lines[-1]]


def test_a_dead_camera_ends_the_clip_with_the_reason_camera():
    harness = ClipHarness({"sound": "event"}).boot().run(20)
    number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(2)
    assert harness.microphone.opened and not harness.ring_recorder.errors
    harness.camera.stalled = True
    harness.run(7)
    assert harness.ring_recorder.errors == CAMERA
    harness.run(20)
    assert close_reasons(harness) == ["camera"] and harness.sealed[0]["clip_id"] == number
    assert not harness.microphone.opened  # the microphone is closed while nothing is recorded
    harness.camera.stalled = False
    harness.run(5)
    assert not harness.ring_recorder.errors and harness.ring_recorder.loss.total > 100


def test_a_long_recording_with_a_dead_camera_is_sealed_within_ten_minutes():
    harness = ClipHarness(size=400, fps=2).boot().run(20)
    harness.recorder.trigger(3, 1, "duty", harness.now, UNTIL_STOPPED)
    harness.run(30)
    harness.camera.stalled = True
    harness.run(600)
    assert close_reasons(harness) == ["camera"] and harness.sealed[0]["duration_ms"] > 30000
    harness.camera.stalled = False
    harness.run(20)
    harness.recorder.stop("duty", harness.now)
    harness.run(20)
    assert close_reasons(harness)[-1] == "done" and harness.pictures(2)
    assert harness.manifest(2)[0]["follows"] == 1


def test_events_without_storage_for_hours_use_bounded_memory():
    for number in (EIO, 30):
        harness = ClipHarness({"post_s": 5}, fps=1).boot().run(20)
        files, harness.files.fault = harness.files, number
        numbers = set()
        for i in range(80):
            numbers.add(harness.recorder.trigger(i % 5, i, "", harness.now))
            harness.run(15)
            harness.camera.captured.clear()  # the list would fragment the heap of MicroPython
            assert len(harness.store.open_clips) <= 8 and harness.ring_recorder.errors & FAULT
        assert len(numbers) <= 8
        for open_clip in harness.store.open_clips._clips:
            assert len(open_clip.manifest._pending) <= 70
        live = harness.recorder.trigger(1, 1000, "", harness.now, 20000)
        harness.run(2)
        files.fault = 0
        harness.run(60)
        assert not harness.ring_recorder.errors and not harness.store.open_clips
        lines = harness.manifest(live)
        assert harness.store.index.find(live).sos and [
            s for s in lines if s.get("access") == "lost" or s.get("event") == 1000
        ]
        # The remaining 18 s of the SOS, after storage recovered, are recorded.
        after = [v for v in harness.sealed if v["clip_id"] >= live]
        assert [v["trigger"] for v in after] == [1] * len(after)
        assert sum([len(harness.pictures(v["clip_id"])) for v in after]) >= 12
        assert harness.recorder.trigger(0, 1, "", harness.now) == after[-1]["clip_id"] + 1


def test_a_live_sos_continues_on_storage_that_was_replaced_by_an_empty_one():
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


def test_a_thumbnail_is_encoded_once_a_second_while_storage_fails():
    harness = ClipHarness().boot().run(20)
    encoded = []
    harness.ring_recorder._jpeg = lambda picture: encoded.append(1) or bytes(picture)
    harness.files.fault = EIO
    harness.run(2)
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(8)
    assert len(encoded) <= 9  # one attempt per second, because encoding a JPEG takes time
    harness.run(8)
    harness.files.fault = 0
    encoded.clear()
    harness.run(10)
    assert encoded == [] and not [s for s in harness.manifest(1) if "thumb" in s]  # the clip is over


def test_the_record_button_ends_only_its_own_recording():
    harness = ClipHarness({"lock_kb": 4096}).boot().run(20)
    number = harness.recorder.trigger(3, 1, "duty", harness.now, 60000)
    harness.run(5)
    assert press_record(harness) == number and harness.recorder.held
    harness.run(5)
    assert harness.recorder.release("wearer", harness.now) == number and not harness.recorder.held
    harness.run(44)
    assert not harness.sealed
    harness.run(15)
    assert len(harness.sealed) == 1 and harness.sealed[0]["duration_ms"] >= 70000
    # A recording by the button has no time limit; a dispatcher may stop it too.
    number = press_record(harness)
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


def test_a_long_recording_ends_at_the_lock_quota():
    harness = ClipHarness({"lock_kb": 512}, size=1000, fps=2).boot().run(20)
    press_record(harness)
    harness.run(1300)
    assert close_reasons(harness) == ["storage"] and not harness.recorder.held
    try:
        press_record(harness)
        raise AssertionError("not refused")
    except RefusedError:
        pass
    assert harness.ring_recorder.frames > 2600  # the ring is still recorded


def test_a_microphone_that_cannot_be_opened_is_reported_while_sound_is_recorded():
    harness = ClipHarness({"sound": "event"}).boot().run(20)
    harness.microphone.broken = True
    assert not harness.ring_recorder.errors
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(4)
    assert harness.ring_recorder.errors == MICROPHONE
    harness.run(30)
    assert not harness.ring_recorder.errors and len(harness.sealed) == 1


def perform(harness, action, below):
    """Carry out action 0 to 6, which may be refused; other numbers do nothing."""
    recorder = harness.recorder
    try:
        if action < 3:
            recorder.trigger(below(5), 1, "", harness.now)
        elif action == 3:
            press_record(harness)
        elif action == 4:
            recorder.release("wearer", harness.now)
        elif action == 5:
            recorder.snapshot("duty", harness.now)
        elif action == 6:
            recorder.stop("duty", harness.now)
    except RefusedError:
        pass


def run_random_faults(seed):
    """Return a harness after random faults of camera and storage, and one minute without faults."""
    below = seeded(seed)
    harness = ClipHarness({"sound": ("event", "always", "never")[below(3)], "post_s": 4}).boot()
    if seed % 2:
        harness.files.behind = []
    for _ in range(40):
        harness.files.fault = 0 if below(4) else EIO
        harness.camera.stalled = below(5) == 0
        harness.camera.broken = below(7) == 0
        perform(harness, below(8), below)
        harness.run(below(6), lambda: harness.files.work(below(4)))
    harness.files.fault = 0
    harness.camera.stalled = harness.camera.broken = False
    harness.recorder.stop("duty", harness.now)
    return harness.run(60, lambda: harness.files.work(20))


def test_recording_recovers_from_random_faults():
    for seed in range(1, 25):
        try:
            harness = run_random_faults(seed)
            assert not harness.ring_recorder.errors and not harness.store.open_clips
            for lines in [harness.manifest(int(n[:6])) for n in harness.files.data if n[-4:] == ".plm"]:
                assert "sig" in lines[-1] and [s for s in lines if "close" in s] == [lines[-2]]
            if seed % 3 == 0:
                harness.files.behind = None
                harness.boot().run(5)
                assert not harness.ring_recorder.errors
        except Exception:
            print("seed", seed)
            raise


def test_a_snapshot_without_storage_does_not_split_the_clip():
    harness = ClipHarness({"lock_kb": 4096}).boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now, 30000)
    harness.run(2)
    answers = []
    harness.files.fault = EIO
    harness.run(3)
    harness.recorder.snapshot("duty", harness.now, answers.append)
    harness.run(2)
    harness.files.fault = 0
    harness.run(40)
    assert answers == [None] and [v["clip_id"] for v in harness.sealed] == [number]


def test_a_picture_larger_than_a_record_is_not_recorded():
    harness = ClipHarness({"quota_kb": 65536, "lock_kb": 65536}).boot().run(7)

    class HugePicture:
        """A picture of 2^24 bytes that uses no memory."""

        def __len__(self):
            return 1 << 24

        def __getitem__(self, i):
            return {0: 0xFF, 1: 0xD8, (1 << 24) - 2: 0xFF, (1 << 24) - 1: 0xD9}[i]

    frame = harness.camera.frame
    harness.camera.frame = lambda: (HugePicture(), harness.now, None) if frame() else None
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(2)
    harness.run(1)
    harness.camera.frame = frame
    harness.run(20)
    assert harness.sealed[0]["clip_id"] == number and harness.ring_recorder.loss.total == 15
    jpeg = harness.ring_recorder._jpeg
    harness.ring_recorder._jpeg = lambda picture: HugePicture()  # the camera provides pictures as arrays
    answers = []
    harness.recorder.snapshot("duty", harness.now, answers.append)
    harness.run(2)
    harness.ring_recorder._jpeg = jpeg
    assert answers == [None] and not harness.ring_recorder.errors


def test_a_loss_larger_than_a_gap_record_is_recorded_completely():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.camera.dropped += 200000
    harness.run(20)
    bodies = [b for s in harness.segments(number) for _, _, b in harness.read(s["seg"] + ".pls").of_kind(5)]
    assert sum([body[0] << 8 | body[1] for body in bodies]) == 200000 == harness.ring_recorder.loss.total
    assert sum([s["lost"] for s in harness.segments(number)]) == 200000


def test_frames_dropped_at_a_segment_boundary_do_not_count_as_storage_gaps():
    harness = ClipHarness(size=400, fps=2).boot().run(20)
    harness.recorder.trigger(3, 1, "duty", harness.now, UNTIL_STOPPED)

    def drop_frame():
        harness.camera.dropped += harness.now % 5000 == 0

    harness.run(700, drop_frame)
    assert close_reasons(harness) == ["done"]
