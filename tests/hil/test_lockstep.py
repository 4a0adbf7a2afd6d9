"""Firmware in lock-step with its world: a seed repeats a run to the byte, and its invariants hold."""

import pytest
from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios.shift import Shift

SEED = 11


@pytest.fixture
def mps2():
    it = boards.find("mps2_an385")
    if it.missing_packages():
        pytest.skip(f"mps2_an385: apt-get install {' '.join(it.missing_packages())}")
    return it


def run(board, seed: int, **options):
    shift = Shift(board, PROFILES["city"], seed, name="city", power_cuts_h=(0.06,), sos_h=(0.03,), **options)
    told = shift.run(0.1)
    assert told.wrong == [], f"seed {seed}: {told.wrong}"
    return told


def test_a_seed_repeats_the_trace_and_another_does_not(mps2, record_property):
    first, second, other = run(mps2, SEED), run(mps2, SEED), run(mps2, SEED + 1)
    record_property("trace", f"of seed {SEED}: {first.trace}, again {second.trace}")
    assert first.trace == second.trace != other.trace
    assert first.power_cuts == first.events == 1 and first.delivered + first.in_memory_at_power_cuts == first.spoken
    assert first.heap_peak_bytes < 96 * 1024


def test_the_power_goes_in_the_middle_of_a_flash_operation(mps2):
    """At the first operations of a life: the counter's, the journal's and the file system's own."""
    for cut in (0, 3, 9, 20):
        shift = Shift(mps2, PROFILES["city"], SEED, name="city", cut=cut)
        told = shift.run(0.05)
        assert told.wrong == [] and told.power_cuts == 1, f"cut after {cut} operations: {told.wrong}"


def test_a_board_that_crashes_is_told_with_its_console(mps2):
    shift = Shift(mps2, PROFILES["city"], SEED, name="city", settings={"batch_fixes": 0})
    with pytest.raises(DeviceError, match=f"(?s)seed {SEED}: the board is in a crash loop.*Traceback"):
        shift.run(0.1)


def test_a_board_that_hangs_is_killed_and_told(mps2):
    shift = Shift(mps2, PROFILES["city"], SEED, name="city", limit_s=0.05)
    with pytest.raises(DeviceError, match="the board hangs"):
        shift.run(0.1)
