"""Clip recorder: triggers, extent of clips, snapshots, gaps, sound, quotas and restarts."""

from agent.recording import clip_files
from agent.recording.clip_recorder import UNTIL_STOPPED, RefusedError
from clip_harness import EPOCH_MS, ClipHarness
from patrolink_protocol import clip


def span(harness, number):
    """Return (begin, end) of a clip by its manifest, monotonic ms."""
    segments = harness.segments(number)
    return segments[0]["start_ms"] - EPOCH_MS, segments[-1]["start_ms"] + segments[-1]["ms"] - EPOCH_MS


def test_a_clip_includes_pre_s_before_its_event_and_all_pictures():
    for at in (30.0, 31.35, 33.0, 34.9, 37.05):
        harness = ClipHarness().boot().run(at)
        trigger = harness.now
        number = harness.recorder.trigger(0, 7, "", trigger)
        harness.run(30)
        start, end = span(harness, number)
        assert trigger - 15000 <= start <= trigger - 10000, (at, start)
        assert trigger + 10000 - 250 <= end <= trigger + 10100, (at, end)
        assert harness.pictures(number) == [n for n, ms in harness.camera.captured if start <= ms <= end], at
        assert harness.ring_recorder.loss.total == 0 and harness.ring_recorder.errors == 0
        (values,) = harness.sealed
        assert values["clip_id"] == number == 1 and values["event_id"] == 7 and values["previous_chain"] == b""
        assert values["segments"] == len(harness.segments(number))
        assert values["bytes"] == sum([s["bytes"] for s in harness.segments(number)])


def test_segment_files_match_their_manifest_lines():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(1, 9, "", harness.now)
    harness.run(20)
    total = 0
    for line in harness.segments(number):
        read = harness.read(line["seg"] + ".pls")
        assert read.complete and read.header.start_ms == line["start_ms"] and read.header.boot == 1
        assert len(read.pictures()) == line["frames"] and line["whole"] is True
        kinds = [r[0] for r in read.records]
        assert clip.RECORD_CLOCK in kinds and kinds[-1] == clip.RECORD_END
        assert read.records[-1][2] == bytes([0, 0, 0, line["frames"]])
        total += len(read.of_kind(clip.RECORD_MARK))
    assert total == 1
    (thumb,) = [s for s in harness.manifest(number) if "thumb" in s]
    picture = harness.read(thumb["thumb"] + ".pls")
    assert picture.header.codec == clip.JPEG and picture.complete
    times_ms = [ms for n, ms in harness.camera.captured if [n] == picture.pictures()]
    assert 20000 <= times_ms[0] <= 20250  # the first picture after the trigger


def test_a_second_event_extends_the_clip_and_an_sos_raises_its_trigger():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(6)
    assert harness.recorder.trigger(1, 2, "", harness.now) == number
    assert [item.clip for item in harness.store.uploads.pending()] == [1] * len(list(harness.store.uploads.pending()))
    harness.run(30)
    marks = [s for s in harness.manifest(number) if "mark" in s]
    assert [(s["mark"], s["event"]) for s in marks] == [("button", 1), ("sos", 2)]
    assert 35750 <= span(harness, number)[1] <= 36100
    assert harness.sealed[0]["trigger"] == 1
    for line in marks:
        at = [s for s in harness.segments(number) if s["seg"] == line["seg"]][0]
        assert abs(at["start_ms"] + line["at_ms"] - line["time_ms"]) < 60


def test_a_long_recording_is_split_into_clips_of_ten_minutes():
    harness = ClipHarness(size=400, fps=2).boot().run(20)
    first = harness.recorder.trigger(3, 4, "duty", harness.now, UNTIL_STOPPED)
    start = harness.now
    harness.run(1300)
    assert harness.recorder.stop("duty", harness.now) == first + 2
    harness.run(30)
    assert [v["clip_id"] for v in harness.sealed] == [1, 2, 3]
    heads = [harness.manifest(n)[0] for n in (1, 2, 3)]
    assert [h.get("follows") for h in heads] == [None, 1, 2] and [h["event"] for h in heads] == [4, 4, 4]
    assert all([v["duration_ms"] <= 600000 for v in harness.sealed])
    numbers = harness.pictures(1) + harness.pictures(2) + harness.pictures(3)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and harness.ring_recorder.loss.total == 0
    assert span(harness, 3)[1] >= start + 1310000 - 600
    assert [s["access"] for s in harness.manifest(3) if "access" in s] == ["recording_stop"]


def test_a_clip_right_after_another_includes_pre_s_too():
    harness = ClipHarness().boot().run(20)
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(12)
    trigger = harness.now
    number = harness.recorder.trigger(0, 2, "", trigger)
    harness.run(20)
    assert number == 2 and trigger - 15000 <= span(harness, 2)[0] <= trigger - 10000
    assert harness.manifest(2)[0]["previous"] == harness.manifest(1)[-1]["chain"]
    assert set(harness.pictures(1)) & set(harness.pictures(2))


def test_a_snapshot_is_a_separate_clip_and_other_clips_lose_no_frame():
    harness = ClipHarness().boot().run(20.3)
    answers = []
    requested_ms = harness.now
    harness.recorder.snapshot("duty", requested_ms, answers.append)
    harness.run(5)
    assert answers == [1]
    assert harness.recorder.trigger(0, 1, "", harness.now) == 2
    harness.run(5)
    harness.recorder.snapshot("duty", harness.now, answers.append)
    harness.run(20)
    assert answers == [1, 3]
    (snapshot_number,) = harness.pictures(1)
    assert [requested_ms < ms <= requested_ms + 250 for n, ms in harness.camera.captured if n == snapshot_number] == [
        True
    ]
    assert [v["clip_id"] for v in harness.sealed] == [1, 2, 3, 4]
    assert [v["codec"] for v in harness.sealed] == [clip.JPEG, clip.MJPEG_AVI, clip.JPEG, clip.MJPEG_AVI]
    assert len(harness.pictures(1)) == len(harness.pictures(3)) == 1
    video = harness.pictures(2) + harness.pictures(4)
    assert video == list(range(video[0], video[0] + len(video))) and harness.ring_recorder.loss.total == 0
    assert harness.manifest(4)[0]["follows"] == 2
    # The steps of a clip are consecutive; a missing one would be a gap.
    for number in (2, 4):
        line = [s.get("seg", s.get("thumb")) for s in harness.manifest(number) if "bytes" in s]
        steps = sorted([int(s[7:]) for s in line])
        assert steps == list(range(steps[0], steps[0] + len(steps))), number
    harness.camera.stalled = True
    harness.run(3)
    harness.recorder.snapshot("duty", harness.now, answers.append)
    try:
        harness.recorder.snapshot("duty", harness.now)
        raise AssertionError("not refused")
    except RefusedError as e:
        assert "another" in str(e)
    harness.run(3)
    assert answers == [1, 3, None] and len(harness.sealed) == 4


def test_missing_frames_are_recorded_as_gaps_with_their_reason():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(1)
    harness.camera.broken = True
    harness.run(1)
    harness.camera.broken = False
    harness.run(1)
    harness.camera.stalled = True
    harness.run(2)
    harness.camera.stalled = False
    harness.camera.dropped += 3
    harness.run(20)
    gaps = {}
    for line in harness.segments(number):
        for _, _, body in harness.read(line["seg"] + ".pls").of_kind(clip.RECORD_GAP):
            gaps[body[2]] = gaps.get(body[2], 0) + (body[0] << 8 | body[1])
    assert (
        gaps[clip.GAP_BAD_PICTURE] == 5 and gaps[clip.GAP_STORAGE_LATE] == 3 and 5 <= gaps[clip.GAP_CAMERA_STALLED] <= 8
    ), gaps
    assert harness.ring_recorder.loss.total == sum(gaps.values()) == sum([s["lost"] for s in harness.segments(number)])


def test_a_clock_change_is_recorded():
    harness = ClipHarness()
    harness.time_known = False
    harness.boot().run(17)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(0.5)
    harness.time_known = True
    harness.run(1)
    harness.clock_shift_ms = 5000
    harness.run(20)
    clocks = []
    for line in harness.segments(number):
        read = harness.read(line["seg"] + ".pls")
        clocks.append([int.from_bytes(body[:8], "big") - EPOCH_MS for _, _, body in read.of_kind(clip.RECORD_CLOCK)])
    assert clocks[0] == [] and len([c for c in clocks if len(c) == 2]) == 1, clocks
    assert harness.manifest(number)[0]["time_ms"] == 0


def test_fixes_are_recorded_in_the_segment():
    from agent.gps.fix import HAS_POSITION, Fix

    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    fix = Fix()
    harness.ring_recorder.on_fix(fix, harness.now)
    fix.flags, fix.lat_e7, fix.lon_e7, fix.mode, fix.day, fix.ms = HAS_POSITION, -335000000, 1512000000, 3, 20000, 5
    harness.ring_recorder.on_fix(fix, harness.now)
    harness.run(20)
    import struct

    fixes = []
    for line in harness.segments(number):
        for _, time_ms, body in harness.read(line["seg"] + ".pls").of_kind(clip.RECORD_FIX):
            fixes.append(struct.unpack(clip.FIX_FORMAT, struct.pack(">I", time_ms) + body))
    assert [f[2:4] for f in fixes] == [(-0x80000000, -0x80000000), (-335000000, 1512000000)]
    assert fixes[1][1] == 20000 * 86400000 + 5 and fixes[1][4:] == (-0x80000000, 0xFFFFFFFF, 0xFFFF, 0xFFFFFFFF, 3)


def test_sound_is_recorded_from_the_trigger_on():
    harness = ClipHarness({"sound": "event"}).boot().run(21.5)
    assert not harness.microphone.opened
    trigger = harness.now
    number = harness.recorder.trigger(0, 1, "", trigger)
    harness.run(9)
    assert harness.microphone.opened
    harness.run(20)
    assert not harness.microphone.opened
    sound_bytes = 0
    for line in harness.segments(number):
        read = harness.read(line["seg"] + ".pls")
        sound = sum([len(body) - 8 for _, _, body in read.of_kind(clip.RECORD_MEDIA) if body[:4] == b"01wb"])
        late = line["start_ms"] - EPOCH_MS >= trigger
        assert bool(sound) == bool(read.header.flags & clip.FLAG_SOUND) == late, line
        sound_bytes += sound
    assert 9500 * 8 <= sound_bytes <= 10000 * 8  # A-law: 8000 bytes per second
    assert span(harness, number)[0] <= trigger - 10000 and harness.ring_recorder.loss.total == 0
    for setting, opened in (("always", True), ("never", False)):
        harness = ClipHarness({"sound": setting}).boot().run(12)
        assert harness.microphone.opened is opened


def test_exhausted_steps_end_the_recording_and_are_reported():
    harness = ClipHarness().boot().run(12)
    harness.ring_recorder._keys.step = clip_files.STEPS_PER_BOOT - 1
    harness.run(12)
    assert harness.ring_recorder.errors and "000001-999999.pls" in harness.files.data
    assert not [n for n in harness.files.data if n[-4:] == ".pls" and len(n) != 17]


def test_close_seals_the_open_clip():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(1, 1, "", harness.now)
    harness.run(3)
    harness.files.behind = []
    harness.recorder.close(harness.now)
    assert "sig" in harness.manifest(number)[-1] and not harness.camera.opened
    assert harness.segments(number)[-1]["whole"]


def test_an_event_right_after_a_boot_includes_the_end_of_the_previous_boot():
    harness = ClipHarness().boot().run(33)
    harness.boot().run(2)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(20)
    segments = harness.segments(number)
    boots = [s["seg"][:6] for s in segments]
    assert boots[0] == "000001" and boots[-1] == "000002"
    complete = [s["whole"] for s in segments if s["seg"] < "000002"]
    assert len(complete) >= 3 and complete == [True] * (len(complete) - 1) + [False]
    harness.run(60)
    harness.boot().run(60)
    listed = [s.get("seg", s.get("thumb")) + ".pls" for s in harness.manifest(number) if "bytes" in s]
    assert [n for n in harness.files.data if n[:7] == "000002-" and n not in listed] == []


def test_a_full_lock_quota_refuses_routine_events_and_accepts_an_sos():
    harness = ClipHarness({"lock_kb": 120}).boot().run(20)
    first = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(40)
    assert len(harness.low) == 2 and 80 <= harness.low[0] < harness.low[1] == 100
    try:
        harness.recorder.trigger(0, 2, "", harness.now)
        raise AssertionError("not refused")
    except RefusedError as e:
        assert "upload" in str(e)
    assert harness.recorder.trigger(1, 3, "", harness.now) == first + 1


def test_a_full_lock_quota_refuses_snapshots_except_during_an_sos():
    harness = ClipHarness({"lock_kb": 120}).boot().run(20)
    harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(40)
    answers = []
    try:
        harness.recorder.snapshot("duty", harness.now, answers.append)
        raise AssertionError("not refused")
    except RefusedError as e:
        assert "upload" in str(e)
    harness.recorder.trigger(1, 3, "", harness.now)
    harness.recorder.snapshot("duty", harness.now, answers.append)
    harness.run(2)
    assert answers == [3]


def test_frames_dropped_by_the_camera_are_counted_once():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(1)
    harness.camera.stalled = True  # the loop is blocked for 3 s: the camera stores 5 of 15 frames
    harness.run(2)
    harness.camera.dropped += 10
    harness.camera.stalled = False
    harness.run(20)
    assert harness.ring_recorder.loss.total == sum([s["lost"] for s in harness.segments(number)]) == 10


def test_pictures_that_the_camera_reports_as_damaged_are_gaps():
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(1)
    harness.camera.damaged += 4
    harness.run(20)
    bodies = [
        b for s in harness.segments(number) for _, _, b in harness.read(s["seg"] + ".pls").of_kind(clip.RECORD_GAP)
    ]
    assert [(body[1], body[2]) for body in bodies] == [
        (4, clip.GAP_BAD_PICTURE)
    ] and harness.ring_recorder.loss.total == 4
