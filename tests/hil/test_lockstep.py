"""Firmware in lock-step with the simulation: a seed reproduces a run byte for byte, and its invariants hold."""

import pytest
from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios.shift import Shift

SEED = 11


@pytest.fixture
def mps2():
    board = boards.find("mps2_an385")
    if board.missing_packages():
        pytest.skip(f"mps2_an385: apt-get install {' '.join(board.missing_packages())}")
    return board


def run(board, seed: int, **options):
    shift = Shift(board, PROFILES["city"], seed, name="city", power_cuts_h=(0.04,), sos_h=(0.02,), **options)
    result = shift.run(0.06)
    assert result.wrong == [], f"seed {seed}: {result.wrong}"
    return result


def test_same_seed_gives_same_trace(mps2, record_property):
    first, second, other = run(mps2, SEED), run(mps2, SEED), run(mps2, SEED + 1)
    record_property("trace", f"of seed {SEED}: {first.trace}, repeated {second.trace}")
    assert first.trace == second.trace != other.trace
    assert first.power_cuts == first.events == 1
    assert first.delivered + first.fixes_in_memory_at_power_cuts == first.recorded
    assert first.heap_peak_bytes < 96 * 1024


def test_power_cut_during_flash_operation(mps2):
    """The first operations after a boot are those of the counter, the journal and the file system."""
    for cut in (0, 3, 9, 20):
        shift = Shift(mps2, PROFILES["city"], SEED, name="city", cut=cut)
        result = shift.run(0.03)
        assert result.wrong == [] and result.power_cuts == 1, f"cut after {cut} operations: {result.wrong}"


def test_crash_loop_is_reported_with_console(mps2):
    shift = Shift(mps2, PROFILES["city"], SEED, name="city", settings={"batch_fixes": 0})
    with pytest.raises(DeviceError, match=f"(?s)seed {SEED}: the board is in a crash loop.*Traceback"):
        shift.run(0.1)


def test_hanging_board_is_killed_and_reported(mps2):
    shift = Shift(mps2, PROFILES["city"], SEED, name="city", limit_s=0.05)
    with pytest.raises(DeviceError, match="the board hangs"):
        shift.run(0.1)
