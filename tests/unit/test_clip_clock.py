"""The clock under a recorder: unknown, late, set by years and back, midnight, a receiver that tells nonsense."""

import struct

import patrolink_messages as m
from agent.gps.fix import DATE_SUSPECT, HAS_POSITION, Fix
from agent.gps.sentences import GpsReceiver
from clip_harness import World
from patrolink_protocol import clip, codec
from seeded_random import seeded

YEAR_MS = 31536000000


def encoded(world):
    """Every clip_manifest that was announced fits its message; return the values."""
    buf = bytearray(m.MAX_FRAME)
    for values in world.sealed:
        codec.encode_into(m.CLIP_MANIFEST, values, buf, 0)
    return world.sealed


def test_a_clock_set_by_years_between_ring_and_event_is_announced():
    for before, after in ((-20 * YEAR_MS, 0), (0, -20 * YEAR_MS), (0, 400 * YEAR_MS), (-56 * YEAR_MS, 0)):
        world = World()
        world.shift = before
        world.boot().run(20)
        world.shift = after
        world.run(3)
        number = world.recorder.trigger(1, 7, "", world.now)
        world.run(30)
        (values,) = encoded(world)
        assert values["clip_id"] == number and 10000 <= values["pre_event_ms"] <= 15000, (before, after, values)


def test_what_was_before_an_event_is_told_without_a_clock():
    world = World()
    world.known = False
    world.boot().run(33)
    world.recorder.trigger(0, 7, "", world.now)
    world.run(30)
    (values,) = encoded(world)
    assert values["start_ms"] == 0 and 10000 <= values["pre_event_ms"] <= 15000


def test_a_clip_that_goes_on_has_nothing_before_its_event():
    world = World(size=400, fps=2).boot().run(20)
    world.recorder.trigger(1, 4, "", world.now, 700000)
    world.run(720)
    first, second = encoded(world)
    assert 10000 <= first["pre_event_ms"] <= 15000 and second["pre_event_ms"] == 0


def test_clocks_that_jump_at_random_stop_nothing():
    for seed in range(1, 30):
        below = seeded(seed)
        world = World().boot()
        for _ in range(12):
            world.run(1 + below(6))
            what = below(6)
            if what == 0:
                world.shift = (below(40000) - 20000) * 86400000
            elif what == 1:
                world.shift = below(20000) - 10000
            elif what == 2:
                world.known = not world.known
            elif what == 3:
                world.recorder.trigger(below(2), below(9), "", world.now)
        world.shift = 0
        world.run(30)
        encoded(world)
        for number in [int(n[:6]) for n in world.files.data if n[-4:] == ".plm"]:
            said = world.manifest(number)
            assert "sig" in said[-1], seed
            for line in said:
                for key in ("time_ms", "start_ms"):
                    assert 0 <= line.get(key, 0) < 1 << 48, (seed, line)


def test_positions_that_a_receiver_could_tell_are_written_and_stop_nothing():
    told = (
        b"$GPZDA,000000.00,01,01,1901,00,00",
        b"$GPZDA,235959.99,31,12,1969,00,00",
        b"$GPRMC,120000.00,A,4600.000,N,01430.000,E,0.1,0.0,010169,,,A",
        b"$GPGGA,120001.00,4600.000,N,01430.000,E,1,08,1.0,99999999999.9,M,0.0,M,,",
        b"$GPGGA,120002.00,4600.000,N,01430.000,E,1,08,99.0,-99999999999.9,M,0.0,M,,",
        b"$GPRMC,120003.00,A,9999.999,N,99999.999,E,999999.9,99999.9,311299,,,A",
        b"$GPRMC,120004.00,A,4600.000,N,01430.000,E,-1.0,-1.0,060180,,,A",
    )
    world = World().boot().run(20)
    number = world.recorder.trigger(0, 1, "", world.now)
    took = []

    def take(fix):
        took.append(fix.day)
        world.recorder.on_fix(fix, world.now)

    receiver = GpsReceiver(take, 20000)
    for line in told:
        total = 0
        for c in line[1:]:
            total ^= c
        line += b"*%02X\r\n" % total
        receiver.feed(line, len(line), world.now)
        world.run(0.2)
        receiver.poll(world.now)
    world.run(20)
    assert len(took) >= 4 and min([day for day in took if day > -(1 << 30)]) < 0
    fixes = []
    for said in world.segments(number):
        for _, time_ms, body in world.read(said["seg"] + ".pls").of(clip.FIX):
            fixes.append(struct.unpack(clip.FIX_BODY, struct.pack(">I", time_ms) + body))
    assert len(fixes) == len(took)
    for at in fixes:
        assert abs(at[1] - world.unix(world.now)) < 60000, at  # by the clock: none of these dates is believed


def test_a_suspect_date_is_not_written_as_the_time_of_a_position():
    world = World().boot().run(7)
    fix = Fix()
    fix.flags, fix.mode, fix.day, fix.ms = HAS_POSITION | DATE_SUSPECT, 3, 3657, 5
    world.recorder.on_fix(fix, world.now)
    world.run(5)
    (body,) = [it for n in world.files.data if n[-4:] == ".pls" for _, _, it in world.read(n).of(clip.FIX)]
    assert abs(struct.unpack(">Q", body[:8])[0] - world.unix(7000)) < 100
