"""Dates: the window from the build on, week rollovers, majorities, and days without a date."""

import patrolink_enums as enums
from agent.gps.calendar import Calendar
from agent.gps.fix import days_from_civil
from seeded_random import seeded

SEED = 20261202
FLOOR = days_from_civil(2026, 6, 1)
TRUE = days_from_civil(2027, 3, 1)
NOON_MS = 43200000
DAY_MS = 86400000


def state(calendar, day, second=0, has_fix=True):
    """Resolve an epoch with a date; return (day, suspect)."""
    ms = NOON_MS + 1000 * second
    return calendar.resolve(day, ms, ms, 1000 * second, has_fix), calendar.suspect


def test_dates_outside_of_twenty_years_from_the_build_are_suspect():
    for day, suspect in (
        (FLOOR - 1, True),
        (FLOOR, False),
        (FLOOR + 7305, False),
        (FLOOR + 7306, True),
        (days_from_civil(1980, 1, 6), True),
        (days_from_civil(2080, 1, 5), True),
        (TRUE - 1024 * 7, True),
    ):
        assert state(Calendar(FLOOR), day) == (day, suspect)


def test_a_date_of_a_receiver_without_a_fix_gives_way_to_one_with_a_fix():
    calendar = Calendar(FLOOR)
    assert state(calendar, TRUE + 400, 0, False) == (TRUE + 400, False)
    assert state(calendar, TRUE + 500, 1, False) == (TRUE + 500, False)
    assert state(calendar, TRUE, 2) == (TRUE, False)
    assert state(calendar, TRUE + 400, 3, False) == (TRUE + 400, True)


def test_a_rollover_ahead_within_the_window_gives_way_at_once():
    for weeks in (1023, 1024):
        calendar = Calendar(TRUE - 100)
        for second in range(100):
            assert state(calendar, TRUE + 7 * weeks, second) == (TRUE + 7 * weeks, False)
        assert state(calendar, TRUE, 100) == (TRUE, False)
        assert state(calendar, TRUE + 7 * weeks, 101) == (TRUE + 7 * weeks, True)
        assert state(calendar, TRUE, 102) == (TRUE, False)


def test_bad_dates_never_outvote_more_good_ones():
    for seed in range(SEED, SEED + 200):
        below = seeded(seed)
        calendar = Calendar(FLOOR)
        good = bad = 0
        for second in range(300):
            if good > bad + 1 and below(3) == 0:
                bad += 1
                day = TRUE + 1 + below(7000 - (TRUE - FLOOR) - 1)
                assert state(calendar, day, second) == (day, True), "seed %d, second %d" % (seed, second)
            else:
                good += 1
                assert state(calendar, TRUE, second) == (TRUE, False), "seed %d, second %d" % (seed, second)


def test_many_good_dates_displace_bad_ones():
    for wrong in (1, 5, 60):
        calendar = Calendar(FLOOR)
        for second in range(wrong):
            state(calendar, TRUE + 100, second)
        right = [state(calendar, TRUE, second)[1] for second in range(wrong, 2 * wrong + 3)]
        assert right == [True] * wrong + [False] * 3


def test_days_without_a_date_follow_the_time_that_passes():
    for seed in range(SEED, SEED + 100):
        below = seeded(seed)
        calendar = Calendar(FLOOR)
        unix_ms = TRUE * DAY_MS + below(DAY_MS)
        now_ms = below(1000000)
        tod_ms = unix_ms % DAY_MS
        calendar.resolve(unix_ms // DAY_MS, tod_ms, tod_ms, now_ms, True)
        for _ in range(50):
            step_ms = below(1000) * below(1000) * below(400)  # up to 44 h
            unix_ms += step_ms
            now_ms += step_ms + step_ms // 10000 * (below(3) - 1)  # a clock of 100 ppm
            day = calendar.resolve(enums.UNKNOWN, 0, unix_ms % DAY_MS, now_ms, False)
            assert (day, calendar.suspect) == (unix_ms // DAY_MS, False), "seed %d" % seed


def test_a_date_belongs_to_its_own_time_of_day():
    calendar = Calendar(FLOOR)
    assert calendar.resolve(TRUE, 1000, DAY_MS - 1000, 0, True) == TRUE - 1
    assert calendar.resolve(TRUE - 1, DAY_MS - 1000, 1000, 2000, True) == TRUE
    assert calendar.resolve(enums.UNKNOWN, 0, DAY_MS - 1, 2500, True) == TRUE - 1  # late


def test_no_date_gives_none():
    calendar = Calendar(FLOOR)
    assert calendar.resolve(enums.UNKNOWN, 0, 5000, 0, True) == enums.UNKNOWN
