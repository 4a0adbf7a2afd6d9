"""Clock of a recorder: unknown, set late, stepped by years in both directions; invalid times of a receiver."""

import struct

import patrolink_messages as m
from agent.gps.fix import DATE_SUSPECT, HAS_POSITION, Fix
from agent.gps.sentences import GpsReceiver
from clip_harness import ClipHarness
from patrolink_protocol import clip, codec
from seeded_random import seeded

YEAR_MS = 31536000000


def checked_announcements(harness):
    """Return the values of each clip_manifest, after checking that they can be encoded."""
    buf = bytearray(m.MAX_FRAME)
    for values in harness.sealed:
        codec.encode_into(m.CLIP_MANIFEST, values, buf, 0)
    return harness.sealed


def test_a_clip_after_a_clock_step_of_years_can_be_announced():
    for shift_ms, new_shift_ms in ((-20 * YEAR_MS, 0), (0, -20 * YEAR_MS), (0, 400 * YEAR_MS), (-56 * YEAR_MS, 0)):
        harness = ClipHarness()
        harness.clock_shift_ms = shift_ms
        harness.boot().run(20)
        harness.clock_shift_ms = new_shift_ms
        harness.run(3)
        number = harness.recorder.trigger(1, 7, "", harness.now)
        harness.run(30)
        (values,) = checked_announcements(harness)
        assert values["clip_id"] == number and 10000 <= values["pre_event_ms"] <= 15000, (shift_ms, new_shift_ms)


def test_pre_event_time_is_known_without_a_clock():
    harness = ClipHarness()
    harness.time_known = False
    harness.boot().run(33)
    harness.recorder.trigger(0, 7, "", harness.now)
    harness.run(30)
    (values,) = checked_announcements(harness)
    assert values["start_ms"] == 0 and 10000 <= values["pre_event_ms"] <= 15000


def test_a_follow_up_clip_has_no_pre_event_time():
    harness = ClipHarness(size=400, fps=2).boot().run(20)
    harness.recorder.trigger(1, 4, "", harness.now, 700000)
    harness.run(720)
    first, second = checked_announcements(harness)
    assert 10000 <= first["pre_event_ms"] <= 15000 and second["pre_event_ms"] == 0


def test_recording_continues_after_random_clock_steps():
    for seed in range(1, 30):
        below = seeded(seed)
        harness = ClipHarness().boot()
        for _ in range(12):
            harness.run(1 + below(6))
            action = below(6)
            if action == 0:
                harness.clock_shift_ms = (below(40000) - 20000) * 86400000
            elif action == 1:
                harness.clock_shift_ms = below(20000) - 10000
            elif action == 2:
                harness.time_known = not harness.time_known
            elif action == 3:
                harness.recorder.trigger(below(2), below(9), "", harness.now)
        harness.clock_shift_ms = 0
        harness.run(30)
        checked_announcements(harness)
        for number in [int(n[:6]) for n in harness.files.data if n[-4:] == ".plm"]:
            lines = harness.manifest(number)
            assert "sig" in lines[-1], seed
            for line in lines:
                for key in ("time_ms", "start_ms"):
                    assert 0 <= line.get(key, 0) < 1 << 48, (seed, line)


def test_positions_with_invalid_times_are_recorded():
    sentences = (
        b"$GPZDA,000000.00,01,01,1901,00,00",
        b"$GPZDA,235959.99,31,12,1969,00,00",
        b"$GPRMC,120000.00,A,4600.000,N,01430.000,E,0.1,0.0,010169,,,A",
        b"$GPGGA,120001.00,4600.000,N,01430.000,E,1,08,1.0,99999999999.9,M,0.0,M,,",
        b"$GPGGA,120002.00,4600.000,N,01430.000,E,1,08,99.0,-99999999999.9,M,0.0,M,,",
        b"$GPRMC,120003.00,A,9999.999,N,99999.999,E,999999.9,99999.9,311299,,,A",
        b"$GPRMC,120004.00,A,4600.000,N,01430.000,E,-1.0,-1.0,060180,,,A",
    )
    harness = ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    days = []

    def on_fix(fix):
        days.append(fix.day)
        harness.ring_recorder.on_fix(fix, harness.now)

    receiver = GpsReceiver(on_fix, 20000)
    for line in sentences:
        total = 0
        for c in line[1:]:
            total ^= c
        line += b"*%02X\r\n" % total
        receiver.feed(line, len(line), harness.now)
        harness.run(0.2)
        receiver.poll(harness.now)
    harness.run(20)
    assert len(days) >= 4 and min([day for day in days if day > -(1 << 30)]) < 0
    fixes = []
    for line in harness.segments(number):
        for _, time_ms, body in harness.read(line["seg"] + ".pls").of_kind(clip.RECORD_FIX):
            fixes.append(struct.unpack(clip.FIX_FORMAT, struct.pack(">I", time_ms) + body))
    assert len(fixes) == len(days)
    for fix in fixes:
        assert abs(fix[1] - harness.unix(harness.now)) < 60000, (
            fix
        )  # time of the clock: none of these dates is accepted


def test_a_suspect_date_is_not_recorded_as_the_time_of_a_position():
    harness = ClipHarness().boot().run(7)
    fix = Fix()
    fix.flags, fix.mode, fix.day, fix.ms = HAS_POSITION | DATE_SUSPECT, 3, 3657, 5
    harness.ring_recorder.on_fix(fix, harness.now)
    harness.run(5)
    (body,) = [body for name in harness.segment_files() for _, _, body in harness.read(name).of_kind(clip.RECORD_FIX)]
    assert abs(struct.unpack(">Q", body[:8])[0] - harness.unix(7000)) < 100
