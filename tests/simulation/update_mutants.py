"""Proves that the power cuts of updates find faults: single faults are put into the device's code, one at a time.

python tests/simulation/update_mutants.py [PART OF A NAME]      default: all mutants of update_mutants.toml

Each mutant runs in a separate process, with a cut at every EVERY-th operation of update_cuts.py, or of file_cuts.py.
Those of campaigns and batches, which no cut of the device's code reaches, run the tests that they name instead. Prints
a table of mutant, file, and what it breaks, and writes it to build/bench/update_mutants.json. Exit code 1 if a mutant
survives.
"""

import importlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = Path(__file__).with_suffix(".toml")
EVERY = 4

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench")]
import bench_rows  # noqa: E402
import pytest  # noqa: E402

from tests.support import mutants  # noqa: E402


def run(mutant: dict[str, str]) -> str:
    """Return the first broken promise, or "" if the mutant survives. This process has the mutant."""
    mutants.activate(mutant)
    if "tests" in mutant:
        failures = _Failures()
        pytest.main(["-q", "-x", "-p", "no:cacheprovider", str(ROOT / mutant["tests"])], [failures])
        return failures.first
    simulation = importlib.import_module(f"tests.simulation.{mutant.get('simulation', 'update_cuts')}")
    try:
        cuts = simulation.run(EVERY, stop_early=True)
    except Exception as e:  # a fault may break an update itself
        return f"{type(e).__name__}: {e}"
    return cuts.examples[0] if cuts.examples else ""


class _Failures:
    """Plugin of pytest: the first test that fails."""

    def __init__(self) -> None:
        self.first = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid.rpartition("/")[2]


def _start(number: int) -> str:
    command = [sys.executable, __file__, "--number", str(number)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    outcome: str = json.loads(result.stdout.splitlines()[-1])
    return outcome


def main(part: str) -> int:
    """Run all mutants whose name has the part; print a line each; return the exit code."""
    chosen = [(number, mutant) for number, mutant in enumerate(mutants.load(MUTANTS)) if part in mutant["name"]]
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (_, mutant), text in zip(chosen, pool.map(lambda entry: _start(entry[0]), chosen), strict=True):
            print(f"{mutant['name']} | {mutant['file']} | {text or 'SURVIVED'}", flush=True)
            rows.append({**bench_rows.row(mutant["name"], int(bool(text)), "caught"), "text": text})
    caught = sum(row["value"] for row in rows)
    print(f"caught {caught} of {len(rows)} mutants")
    if not part:
        bench_rows.save("update_mutants", [bench_rows.row("mutants caught", caught, f"of {len(rows)}"), *rows])
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--number"]:
        print(json.dumps(run(mutants.load(MUTANTS)[int(sys.argv[2])])))
    else:
        sys.exit(main(" ".join(sys.argv[1:])))
