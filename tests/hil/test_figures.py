"""Cost of the agent on the emulated Cortex-M3: baseline, limits, and results of its native code."""

import json
from pathlib import Path

import inline_constants
import pytest
from patrolink.core import boards
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios.shift import Shift

from tests.bench import bench_board as bench
from tests.conftest import ROOT

pytestmark = pytest.mark.unchanged_inputs(
    *("boards/mps2_an385", "build/device-lib", "device", "protocol", "tests/golden"),
    *("tests/bench/bench_board.py", "tests/bench/board_baseline.json", "tests/bench/board_driver.py"),
    *("tests/bench/board_loop.py", "tests/bench/loop_driver.py"),
    *("tests/unit/seeded_random.py", "tests/unit/test_native.py"),
    programs=("arm-none-eabi-gcc", "qemu-system-arm"),
)
LIMITS = {
    "instructions per sentence, mean of an epoch": 40_000,
    "instructions per fix, first byte to encoded": 150_000,
    "instructions per frame, encrypting": 30_000,
    "ms from first fix to broker": 2_000,
    "ms of loop pause at most, recovering a torn clip": 50,
    "ms of loop pause at most, sealing a clip": 50,
    "ms of loop pause at most, recording": 120,  # 70 to 94 measured: it depends on which erases fall together
    "ms of loop pause at most, collecting garbage": 30,
}


@pytest.fixture(scope="module")
def mps2():
    board = boards.find(bench.BOARD)
    if board.missing_packages():
        pytest.skip(f"{board.name}: apt-get install {' '.join(board.missing_packages())}")
    return board


@pytest.fixture(scope="module")
def figures(mps2):
    return bench.measure(mps2)


@pytest.mark.long(50)
def test_no_figure_exceeds_its_baseline(figures):
    assert bench.compare(figures, json.loads(bench.BASELINE.read_text(encoding="utf-8"))) == []


def test_no_figure_exceeds_its_limit(figures):
    assert {name: figures[name] for name, limit in LIMITS.items() if figures[name] > limit} == {}


def test_figure_above_its_baseline_is_named():
    baseline = {"instructions per fix": 1000.0, "old": 1.0}
    assert bench.compare({"instructions per fix": 1100.0, "old": 0.5}, baseline) == []
    grown, new, old = bench.compare({"instructions per fix": 1101.0, "new": 1.0}, baseline)
    assert grown.startswith("instructions per fix: 1,101.0 exceeds the baseline 1,000.0 (tolerance 10%)")
    assert new.startswith("new: 1.0 has no baseline") and old.startswith("old: not measured")


def test_shift_passes_with_32_kb_less_heap(mps2):
    result = Shift(mps2, PROFILES["city"], 1, name="city", sos_h=(0.03,), heap_kb=mps2.heap_kb - 32).run(0.1)
    assert result.wrong == [] and result.events == 1


def inlined(path: Path) -> str:
    """Return a module with the constants of the protocol inlined, as firmware has them."""
    text = path.read_text(encoding="utf-8")
    for module in inline_constants.ALIASES:
        text = inline_constants.inline(text, module, inline_constants.constants(module))
    return text


def test_native_code_gives_the_results_of_the_bytecode(mps2):
    """Runs tests/unit/test_native.py on the 32-bit board."""
    files = {
        f"/{path.name}": inlined(path).encode()
        for path in (
            ROOT / "tests" / "unit" / "test_native.py",
            ROOT / "tests" / "unit" / "seeded_random.py",
            ROOT / "device" / "agent" / "audio" / "samples.py",
            ROOT / "device" / "agent" / "gps" / "scan.py",
            ROOT / "protocol" / "patrolink_protocol" / "cipher_kernels.py",
            ROOT / "protocol" / "patrolink_protocol" / "track_kernels.py",
        )
    }
    files["/run.py"] = (
        b"import gc, machine, sys\n"
        b"try:\n"
        b"    import test_native as t\n"
        b"    tests = [name for name in dir(t) if name.startswith('test_')]\n"
        b"    for name in tests:\n        gc.collect()\n        getattr(t, name)()\n"
        b"    print('passed', len(tests))\n"
        b"except Exception as e:\n    sys.print_exception(e)\n"
        b"machine.deepsleep()\n"  # also after an error: otherwise the console enters the command again until its limit
    )
    with bench.console(mps2, files, b"import run") as (rig, straps, output):
        rig.life(straps)
    assert "passed 5" in output.decode(), output.decode()
