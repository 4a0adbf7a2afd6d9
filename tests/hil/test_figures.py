"""What the agent costs on the emulated Cortex-M3: no figure above its baseline, the bars, its loops' answers."""

import json

import pytest
from patrolink.core import boards
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios.shift import Shift

from tests.bench import bench_board as bench
from tests.conftest import ROOT

BARS = {
    "instructions per sentence, mean of an epoch": 40_000,
    "instructions per fix, first byte to encoded": 150_000,
    "ms from first fix to broker": 2_000,
    "ms of loop pause at most, recovering a torn clip": 50,
    "ms of loop pause at most, sealing a clip": 50,
    "ms of loop pause at most, recording": 120,
}


@pytest.fixture(scope="module")
def mps2():
    it = boards.find(bench.BOARD)
    if it.missing_packages():
        pytest.skip(f"{it.name}: apt-get install {' '.join(it.missing_packages())}")
    return it


@pytest.fixture(scope="module")
def found(mps2):
    return bench.measure(mps2)


def test_no_figure_is_above_its_baseline(found):
    assert bench.compare(found, json.loads(bench.BASELINE.read_text(encoding="utf-8"))) == []


def test_the_bars(found):
    assert {name: found[name] for name, most in BARS.items() if found[name] > most} == {}


def test_a_figure_that_has_grown_is_named():
    baseline = {"instructions per fix": 1000.0, "gone": 1.0}
    assert bench.compare({"instructions per fix": 1100.0, "gone": 0.5}, baseline) == []
    grown, new, gone = bench.compare({"instructions per fix": 1101.0, "new": 1.0}, baseline)
    assert grown.startswith("instructions per fix: 1,101.0 exceeds the baseline 1,000.0 (tolerance 10%)")
    assert new.startswith("new: 1.0 has no baseline") and gone.startswith("gone: not measured")


def test_a_shift_passes_with_32_kb_less(mps2):
    told = Shift(mps2, PROFILES["city"], 1, name="city", sos_h=(0.03,), heap_kb=mps2.heap_kb - 32).run(0.1)
    assert told.wrong == [] and told.events == 1


def test_the_boards_machine_code_says_what_its_text_says(mps2):
    """tests/unit/test_native.py, on 32 bits."""
    files = {
        f"/{path.name}": path.read_bytes()
        for path in (
            ROOT / "tests" / "unit" / "test_native.py",
            ROOT / "tests" / "unit" / "seeded_random.py",
            ROOT / "device" / "agent" / "gps" / "scan.py",
            ROOT / "protocol" / "generated" / "patrolink_enums.py",  # the firmware has its values inlined
            ROOT / "protocol" / "patrolink_protocol" / "track_kernels.py",
        )
    }
    files["/run.py"] = (
        b"import machine, test_native as t\n"
        b"tests = [name for name in dir(t) if name.startswith('test_')]\n"
        b"for name in tests:\n    getattr(t, name)()\n"
        b"print('passed', len(tests))\nmachine.deepsleep()\n"
    )
    with bench.console(mps2, files, b"import run") as (rig, straps, said):
        rig.life(straps)
    assert "passed 3" in said.decode(), said.decode()
