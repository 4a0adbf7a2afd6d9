"""The clock of the device: least delay, bounded slew, never back, and what may step it."""

import patrolink_enums as enums
from agent.gps import fix as gps
from agent.tracking.device_clock import NETWORK, NONE, RECEIVER, DeviceClock
from seeded_random import seeded

SEED = 20261203
DAY_MS = 86400000
START_MS = 20800 * DAY_MS - 5000  # 5 s before midnight


def fix_of(unix_ms, age_ms=0, flags=gps.HAS_POSITION):
    fix = gps.Fix()
    fix.day, fix.ms, fix.flags, fix.age_ms = unix_ms // DAY_MS, unix_ms % DAY_MS, flags, age_ms
    return fix


def test_the_first_fix_and_the_first_time_of_the_network_set_the_clock():
    clock = DeviceClock()
    assert clock.unix_ms(0) is None and not clock.is_set()
    clock.on_fix(fix_of(START_MS + 777, 0, 0), 0)  # a receiver without a fix: its own clock
    assert (clock.source, clock.unix_ms(10)) == (NONE, START_MS + 787)
    clock.set_network(20800, 0, 0)
    assert (clock.source, clock.unix_ms(5)) == (NETWORK, 20800 * DAY_MS + 5)
    clock.set_network(1, 1, 0)
    clock.on_fix(fix_of(START_MS, 0, 0), 0)
    assert clock.unix_ms(5) == 20800 * DAY_MS + 5
    clock.on_fix(fix_of(START_MS, 300), 1000)
    assert (clock.source, clock.unix_ms(1000)) == (RECEIVER, START_MS + 300)
    clock.set_network(1, 1, 0)
    assert clock.unix_ms(1000) == START_MS + 300


def test_times_that_are_suspect_simulated_or_unknown_are_ignored():
    clock = DeviceClock()
    unknown = fix_of(START_MS)
    unknown.day = enums.UNKNOWN
    clock.on_fix(unknown, 0)
    clock.on_fix(fix_of(START_MS, 0, gps.HAS_POSITION | gps.DATE_SUSPECT), 0)
    assert not clock.is_set()
    for flag in (gps.SIMULATED, gps.MANUAL):
        clock.on_fix(fix_of(START_MS, 0, gps.HAS_POSITION | flag), 0)
        assert clock.source == NONE


def run(clock, below, seconds, true_of, delays, readings):
    """Feed a fix each second with a random delay; read the clock in between, and check that it never goes back."""
    before = 0
    for second in range(seconds):
        delay_ms = delays[0] + below(delays[1] - delays[0])
        now_ms = 1000 * second + delay_ms
        for at_ms in (now_ms - 1, now_ms):
            if clock.is_set():
                unix_ms = clock.unix_ms(at_ms)
                assert unix_ms >= before, (second, unix_ms - before)
                before = unix_ms
            if at_ms < now_ms:
                clock.on_fix(fix_of(true_of(1000 * second)), now_ms)
        readings.append(clock.unix_ms(now_ms) - true_of(now_ms))


def drifting(ppm):
    """Return a function that returns the true time for a monotonic time of a crystal that is off by `ppm`."""
    return lambda ms: START_MS + ms + ms * ppm // 1000000


def test_the_clock_settles_at_the_least_delay_and_never_goes_back():
    for seed in range(SEED, SEED + 20):
        for ppm in (-50, 0, 50):
            clock = DeviceClock()
            errors = []
            run(clock, seeded(seed), 300, drifting(ppm), (60, 500), errors)
            context = "seed %d, %d ppm: %s" % (seed, ppm, errors[100:])
            assert -150 <= min(errors[100:]) and max(errors[100:]) <= -50, context
            assert max([abs(b - a) for a, b in zip(errors, errors[1:])]) <= 13, (
                context
            )  # 8 ms a second, up to 1.44 s apart


def test_twelve_hours_without_a_fix_cost_less_than_two_seconds():
    for ppm in (-20, 20):
        clock = DeviceClock()
        true_of = drifting(ppm)
        run(clock, seeded(SEED), 120, true_of, (100, 400), [])
        for hours in (1, 6, 12):
            now_ms = 120000 + hours * 3600000
            assert abs(clock.unix_ms(now_ms) - true_of(now_ms)) < 2000, hours


def test_one_wrong_time_moves_nothing_and_eight_that_agree_step_the_clock():
    for wrong_ms in (-30000, 30000, 1024 * 7 * DAY_MS):
        clock = DeviceClock()
        clock.on_fix(fix_of(START_MS), 0)
        for i in range(1, 8):
            clock.on_fix(fix_of(START_MS + 1000 * i + wrong_ms), 1000 * i)
            assert clock.unix_ms(1000 * i) == START_MS + 1000 * i
        clock.on_fix(fix_of(START_MS + 8000 + wrong_ms), 8000)
        assert clock.unix_ms(8000) == START_MS + 8000 + wrong_ms


def test_epochs_that_waited_in_a_buffer_do_not_step_the_clock():
    clock = DeviceClock()
    clock.on_fix(fix_of(START_MS), 0)
    for second in range(1, 31):
        clock.on_fix(fix_of(START_MS + 1000 * second), 30000)  # 30 s of the UART at once
    assert abs(clock.unix_ms(30000) - START_MS - 30000) <= 240


def test_a_time_before_an_answer_is_still_given():
    clock = DeviceClock()
    clock.on_fix(fix_of(START_MS), 0)
    assert clock.unix_ms(9000) == START_MS + 9000
    assert clock.unix_ms(4000) == START_MS + 4000  # of an event that began earlier
