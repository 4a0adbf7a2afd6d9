"""Plausibility: jumps and drift are flagged, the received position stays, and walks are not held."""

import patrolink_enums as enums
from agent.gps import fix as gps
from agent.tracking.plausibility import PositionJudge
from allocation import allocated
from seeded_random import seeded

SEED = 20261204
LAT_E7, LON_E7 = 475000000, 82600000
METRE_E7 = 90  # of latitude; of longitude at this latitude it is 1.48 times as much


def fix_at(north_m, east_m, second, speed_mms=enums.UNKNOWN, hacc_mm=8000):
    fix = gps.Fix()
    fix.lat_e7 = fix.judged_lat_e7 = LAT_E7 + north_m * METRE_E7
    fix.lon_e7 = fix.judged_lon_e7 = LON_E7 + east_m * METRE_E7 * 148 // 100
    fix.ms, fix.speed_mms, fix.hacc_mm, fix.flags, fix.mode = 1000 * second, speed_mms, hacc_mm, gps.HAS_POSITION, 3
    return fix


def judged_m(fix):
    """Return the judged position in metres north and east."""
    return (fix.judged_lat_e7 - LAT_E7) / METRE_E7, (fix.judged_lon_e7 - LON_E7) / METRE_E7 / 1.48


def judge_all(fixes):
    judge = PositionJudge()
    for second, fix in enumerate(fixes):
        raw = (fix.lat_e7, fix.lon_e7)
        judge.on_fix(fix, 1000 * second)
        assert (fix.lat_e7, fix.lon_e7) == raw
    return fixes


def test_spikes_are_flagged_and_the_last_good_position_is_judged():
    for seed in range(SEED, SEED + 30):
        below = seeded(seed)
        speed = (1400, 8000, 30000)[below(3)]
        far_m = 300 + below(200000)
        fixes, spikes = [], set()
        for second in range(120):
            north = speed * second // 1000
            if second > 3 and below(12) == 0 and second - 1 not in spikes:
                spikes.add(second)
                fixes.append(fix_at(north + (far_m if below(2) else -far_m), 0, second, speed))
            else:
                fixes.append(fix_at(north, 0, second, speed))
        for second, fix in enumerate(judge_all(fixes)):
            flagged = bool(fix.flags & gps.IMPLAUSIBLE)
            assert flagged == (second in spikes), "seed %d, second %d" % (seed, second)
            assert abs(judged_m(fix)[0] - speed * second / 1000) <= speed / 1000 + 1, "seed %d" % seed


def test_a_new_place_is_believed_at_the_fourth_fix_that_agrees():
    fixes = judge_all([fix_at(0, 0, s, 1000) for s in range(5)] + [fix_at(5000 + s, 0, 5 + s, 1000) for s in range(6)])
    assert [bool(f.flags & gps.IMPLAUSIBLE) for f in fixes[5:]] == [True] * 3 + [False] * 3
    assert fixes[7].judged_lat_e7 == fixes[4].lat_e7 and fixes[8].judged_lat_e7 == fixes[8].lat_e7


def test_jumps_among_several_places_are_never_believed():
    fixes = judge_all([fix_at(0, 0, 0)] + [fix_at(9000 * (1 + s % 2), 0, s, 1000) for s in range(1, 40)])
    assert all([f.flags & gps.IMPLAUSIBLE for f in fixes[1:]])


def test_a_ride_and_a_gap_are_plausible():
    judge = PositionJudge()
    ride = ((0, 0, 0), (1, 5, 9000), (2, 20, 19000), (3, 45, 28000), (4, 75, 33000), (64, 4000, 33000))
    for second, north_m, speed in ride:
        fix = fix_at(north_m, 0, second, speed)
        judge.on_fix(fix, 1000 * second)
        assert not fix.flags & gps.IMPLAUSIBLE, second


def test_epochs_that_waited_in_a_buffer_are_plausible():
    judge = PositionJudge()
    for second in range(20):
        fix = fix_at(30 * second, 0, second, 30000)
        judge.on_fix(fix, 0 if not second else 20000)
        assert not fix.flags & gps.IMPLAUSIBLE, second


def test_drift_at_rest_is_held_and_flagged():
    for seed in range(SEED, SEED + 30):
        below = seeded(seed)
        fixes = judge_all([fix_at(below(7) - 3, below(7) - 3, s, below(450)) for s in range(300)])
        held = [f for f in fixes if f.flags & gps.HELD]
        assert len(held) > 200, "seed %d: %d" % (seed, len(held))
        assert len(set([judged_m(f) for f in held])) <= 3, "seed %d" % seed
        assert not [f for f in fixes[:9] if f.flags & gps.HELD]


def test_a_walk_is_never_held_farther_than_the_error():
    for seed in range(SEED, SEED + 30):
        below = seeded(seed)
        speed = 100 + below(1900)
        with_speed = below(2)
        fixes = [fix_at(0, 0, s, 0) for s in range(30)]
        fixes += [fix_at(s * speed // 1000, 0, 30 + s, speed if with_speed else enums.UNKNOWN) for s in range(300)]
        for second, fix in enumerate(judge_all(fixes)):
            off_m = abs(judged_m(fix)[0] - (fix.lat_e7 - LAT_E7) / METRE_E7)
            assert off_m <= 9, "seed %d, second %d: %d m at %d mm/s" % (seed, second, off_m, speed)
            assert bool(fix.flags & gps.HELD) or off_m == 0


def test_fixes_without_a_position_change_nothing():
    judge = PositionJudge()
    judge.on_fix(fix_at(0, 0, 0), 0)
    nothing = gps.Fix()
    judge.on_fix(nothing, 500)
    assert nothing.flags == 0
    spike = fix_at(2000, 0, 1, 1000)
    judge.on_fix(spike, 1000)
    assert spike.flags & gps.IMPLAUSIBLE


def test_judging_allocates_nothing():
    judge = PositionJudge()
    fix = fix_at(0, 0, 0, 1000)
    judge.on_fix(fix, 0)
    assert allocated(judge.on_fix, fix, 1000) == 0
