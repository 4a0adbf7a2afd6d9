from agent.recording import clip_index
from agent.recording.recorder import FOREVER, RefusedError
from clip_harness import EPOCH_MS, World
from patrolink_protocol import clip


def span(world, number):
    """Return (monotonic ms of the first frame, of the end) of a clip by its manifest."""
    segments = world.segments(number)
    return segments[0]["start_ms"] - EPOCH_MS, segments[-1]["start_ms"] + segments[-1]["ms"] - EPOCH_MS


def test_an_event_has_what_was_before_it_and_no_picture_is_lost():
    for at in (30.0, 31.35, 33.0, 34.9, 37.05):
        world = World().boot().run(at)
        trigger = world.now
        number = world.recorder.trigger(0, 7, "", trigger)
        world.run(30)
        start, end = span(world, number)
        assert trigger - 15000 <= start <= trigger - 10000, (at, start)
        assert trigger + 10000 - 250 <= end <= trigger + 10100, (at, end)
        assert world.pictures(number) == [n for n, ms in world.camera.given if start <= ms <= end], at
        assert world.recorder.lost == 0 and world.recorder.errors == 0
        (values,) = world.sealed
        assert values["clip_id"] == number == 1 and values["event_id"] == 7 and values["previous_chain"] == b""
        assert values["segments"] == len(world.segments(number))
        assert values["bytes"] == sum([s["bytes"] for s in world.segments(number)])


def test_files_say_what_they_are():
    world = World().boot().run(20)
    number = world.recorder.trigger(1, 9, "", world.now)
    world.run(20)
    total = 0
    for said in world.segments(number):
        read = world.read(said["seg"] + ".pls")
        assert read.whole and read.header.start_ms == said["start_ms"] and read.header.boot == 1
        assert len(read.pictures()) == said["frames"] and said["whole"] is True
        kinds = [r[0] for r in read.records]
        assert clip.CLOCK in kinds and kinds[-1] == clip.END
        assert read.records[-1][2] == bytes([0, 0, 0, said["frames"]])
        total += len(read.of(clip.MARK))
    assert total == 1
    (thumb,) = [s for s in world.manifest(number) if "thumb" in s]
    picture = world.read(thumb["thumb"] + ".pls")
    assert picture.header.codec == clip.JPEG and picture.whole
    taken = [ms for n, ms in world.camera.given if [n] == picture.pictures()]
    assert 20000 <= taken[0] <= 20250  # the first picture after the trigger


def test_a_second_event_marks_and_extends_and_an_sos_raises():
    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(6)
    assert world.recorder.trigger(1, 2, "", world.now) == number
    assert [item.clip for item in world.shelf.pending()] == [1] * len(list(world.shelf.pending()))
    world.run(30)
    marks = [s for s in world.manifest(number) if "mark" in s]
    assert [(s["mark"], s["event"]) for s in marks] == [("button", 1), ("sos", 2)]
    assert 35750 <= span(world, number)[1] <= 36100
    assert world.sealed[0]["trigger"] == 1
    for said in marks:
        at = [s for s in world.segments(number) if s["seg"] == said["seg"]][0]
        assert abs(at["start_ms"] + said["at_ms"] - said["time_ms"]) < 60


def test_a_long_recording_goes_on_in_clips_of_ten_minutes():
    world = World(size=400, fps=2).boot().run(20)
    first = world.recorder.trigger(3, 4, "duty", world.now, FOREVER)
    start = world.now
    world.run(1300)
    assert world.recorder.stop("duty", world.now) == first + 2
    world.run(30)
    assert [v["clip_id"] for v in world.sealed] == [1, 2, 3]
    heads = [world.manifest(n)[0] for n in (1, 2, 3)]
    assert [h.get("follows") for h in heads] == [None, 1, 2] and [h["event"] for h in heads] == [4, 4, 4]
    assert all([v["duration_ms"] <= 600000 for v in world.sealed])
    numbers = world.pictures(1) + world.pictures(2) + world.pictures(3)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and world.recorder.lost == 0
    assert span(world, 3)[1] >= start + 1310000 - 600
    assert [s["access"] for s in world.manifest(3) if "access" in s] == ["recording_stop"]


def test_a_clip_right_after_another_has_what_was_before_it_too():
    world = World().boot().run(20)
    world.recorder.trigger(0, 1, "", world.now)
    world.run(12)
    trigger = world.now
    number = world.recorder.trigger(0, 2, "", trigger)
    world.run(20)
    assert number == 2 and trigger - 15000 <= span(world, 2)[0] <= trigger - 10000
    assert world.manifest(2)[0]["previous"] == world.manifest(1)[-1]["chain"]
    assert set(world.pictures(1)) & set(world.pictures(2))


def test_a_snapshot_is_a_clip_of_its_own_and_costs_the_others_nothing():
    world = World().boot().run(20.3)
    taken = []
    asked = world.now
    world.recorder.snapshot("duty", asked, taken.append)
    world.run(5)
    assert taken == [1]
    assert world.recorder.trigger(0, 1, "", world.now) == 2
    world.run(5)
    world.recorder.snapshot("duty", world.now, taken.append)
    world.run(20)
    assert taken == [1, 3]
    (photo,) = world.pictures(1)
    assert [asked < ms <= asked + 250 for n, ms in world.camera.given if n == photo] == [True]
    assert [v["clip_id"] for v in world.sealed] == [1, 2, 3, 4]
    assert [v["codec"] for v in world.sealed] == [clip.JPEG, clip.MJPEG_AVI, clip.JPEG, clip.MJPEG_AVI]
    assert len(world.pictures(1)) == len(world.pictures(3)) == 1
    video = world.pictures(2) + world.pictures(4)
    assert video == list(range(video[0], video[0] + len(video))) and world.recorder.lost == 0
    assert world.manifest(4)[0]["follows"] == 2
    # No step is left out in a clip, so nothing looks like a gap.
    for number in (2, 4):
        said = [s.get("seg", s.get("thumb")) for s in world.manifest(number) if "bytes" in s]
        steps = sorted([int(s[7:]) for s in said])
        assert steps == list(range(steps[0], steps[0] + len(steps))), number
    world.camera.stalled = True
    world.run(3)
    world.recorder.snapshot("duty", world.now, taken.append)
    try:
        world.recorder.snapshot("desk", world.now)
        raise AssertionError("it was taken")
    except RefusedError as e:
        assert "another" in str(e)
    world.run(3)
    assert taken == [1, 3, None] and len(world.sealed) == 4


def test_what_the_camera_does_not_give_is_counted_in_its_place():
    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(1)
    world.camera.broken = True
    world.run(1)
    world.camera.broken = False
    world.run(1)
    world.camera.stalled = True
    world.run(2)
    world.camera.stalled = False
    world.camera.dropped += 3
    world.run(20)
    gaps = {}
    for said in world.segments(number):
        for _, _, body in world.read(said["seg"] + ".pls").of(clip.GAP):
            gaps[body[2]] = gaps.get(body[2], 0) + (body[0] << 8 | body[1])
    assert gaps[clip.BROKEN] == 5 and gaps[clip.LATE] == 3 and 5 <= gaps[clip.STALLED] <= 8, gaps
    assert world.recorder.lost == sum(gaps.values()) == sum([s["lost"] for s in world.segments(number)])


def test_a_clock_that_is_set_is_written_down():
    world = World()
    world.known = False
    world.boot().run(17)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(0.5)
    world.known = True
    world.run(1)
    world.shift = 5000
    world.run(20)
    clocks = []
    for said in world.segments(number):
        read = world.read(said["seg"] + ".pls")
        clocks.append([int.from_bytes(body[:8], "big") - EPOCH_MS for _, _, body in read.of(clip.CLOCK)])
    assert clocks[0] == [] and len([c for c in clocks if len(c) == 2]) == 1, clocks
    assert world.manifest(number)[0]["time_ms"] == 0


def test_fixes_are_in_the_video():
    from agent.gps.fix import HAS_POSITION, Fix

    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    fix = Fix()
    world.recorder.on_fix(fix, world.now)
    fix.flags, fix.lat_e7, fix.lon_e7, fix.mode, fix.day, fix.ms = HAS_POSITION, -335000000, 1512000000, 3, 20000, 5
    world.recorder.on_fix(fix, world.now)
    world.run(20)
    import struct

    fixes = []
    for said in world.segments(number):
        for _, time_ms, body in world.read(said["seg"] + ".pls").of(clip.FIX):
            fixes.append(struct.unpack(clip.FIX_BODY, struct.pack(">I", time_ms) + body))
    assert [f[2:4] for f in fixes] == [(-0x80000000, -0x80000000), (-335000000, 1512000000)]
    assert fixes[1][1] == 20000 * 86400000 + 5 and fixes[1][4:] == (-0x80000000, 0xFFFFFFFF, 0xFFFF, 0xFFFFFFFF, 3)


def test_sound_is_in_an_event_from_its_trigger_on_and_never_before():
    world = World({"sound": "event"}).boot().run(21.5)
    assert not world.ears.opened
    trigger = world.now
    number = world.recorder.trigger(0, 1, "", trigger)
    world.run(9)
    assert world.ears.opened
    world.run(20)
    assert not world.ears.opened
    heard = 0
    for said in world.segments(number):
        read = world.read(said["seg"] + ".pls")
        sound = sum([len(body) - 8 for _, _, body in read.of(clip.MEDIA) if body[:4] == b"01wb"])
        late = said["start_ms"] - EPOCH_MS >= trigger
        assert bool(sound) == bool(read.header.flags & clip.SOUND) == late, said
        heard += sound
    assert 9500 * 8 <= heard <= 10000 * 8  # A-law, 8000 a second
    assert span(world, number)[0] <= trigger - 10000 and world.recorder.lost == 0
    for setting, opened in (("always", True), ("never", False)):
        world = World({"sound": setting}).boot().run(12)
        assert world.ears.opened is opened


def test_steps_that_are_used_up_end_the_recording_and_are_told():
    world = World().boot().run(12)
    world.recorder._keys.step = clip_index.STEPS - 1
    world.run(12)
    assert world.recorder.errors and "000001-999999.pls" in world.files.data
    assert not [n for n in world.files.data if n[-4:] == ".pls" and len(n) != 17]


def test_a_planned_end_leaves_a_sealed_clip():
    world = World().boot().run(20)
    number = world.recorder.trigger(1, 1, "", world.now)
    world.run(3)
    world.files.behind = []
    world.recorder.close(world.now)
    assert "sig" in world.manifest(number)[-1] and not world.camera.opened
    assert world.segments(number)[-1]["whole"]


def test_an_event_right_after_the_boot_has_what_the_boot_before_recorded():
    world = World().boot().run(33)
    world.boot().run(2)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(20)
    segments = world.segments(number)
    boots = [s["seg"][:6] for s in segments]
    assert boots[0] == "000001" and boots[-1] == "000002"
    old = [s["whole"] for s in segments if s["seg"] < "000002"]
    assert len(old) >= 3 and old == [True] * (len(old) - 1) + [False]
    world.run(60)
    world.boot().run(60)
    listed = [s.get("seg", s.get("thumb")) + ".pls" for s in world.manifest(number) if "bytes" in s]
    assert [n for n in world.files.data if n[:7] == "000002-" and n not in listed] == []


def test_a_routine_event_is_refused_when_clips_take_all_room_and_an_sos_is_not():
    world = World({"lock_kb": 120}).boot().run(20)
    first = world.recorder.trigger(0, 1, "", world.now)
    world.run(40)
    assert len(world.low) == 2 and 80 <= world.low[0] < world.low[1] == 100
    try:
        world.recorder.trigger(0, 2, "", world.now)
        raise AssertionError("it was taken")
    except RefusedError as e:
        assert "upload" in str(e)
    assert world.recorder.trigger(1, 3, "", world.now) == first + 1


def test_a_snapshot_is_refused_when_clips_take_all_room_but_during_an_sos():
    world = World({"lock_kb": 120}).boot().run(20)
    world.recorder.trigger(0, 1, "", world.now)
    world.run(40)
    taken = []
    try:
        world.recorder.snapshot("duty", world.now, taken.append)
        raise AssertionError("it was taken")
    except RefusedError as e:
        assert "upload" in str(e)
    world.recorder.trigger(1, 3, "", world.now)
    world.recorder.snapshot("duty", world.now, taken.append)
    world.run(2)
    assert taken == [3]


def test_frames_that_nobody_took_in_time_are_counted_once():
    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(1)
    world.camera.stalled = True  # the loop was held up for 3 s: of 15 frames the camera kept those of the last one
    world.run(2)
    world.camera.dropped += 10
    world.camera.stalled = False
    world.run(20)
    assert world.recorder.lost == sum([s["lost"] for s in world.segments(number)]) == 10


def test_pictures_that_the_camera_found_damaged_are_told_as_what_they_are():
    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    world.run(1)
    world.camera.damaged += 4
    world.run(20)
    bodies = [b for s in world.segments(number) for _, _, b in world.read(s["seg"] + ".pls").of(clip.GAP)]
    assert [(body[1], body[2]) for body in bodies] == [(4, clip.BROKEN)] and world.recorder.lost == 4
