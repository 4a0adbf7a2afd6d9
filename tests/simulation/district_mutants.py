"""Proves that the district simulation finds faults: single faults are put into hub and agent, one at a time.

python tests/simulation/district_mutants.py [PART OF A NAME] [--jobs N]
                                        default: all mutants of district_mutants.toml, a job for each core

Each mutant runs in a separate process, for seeds until one shows a violation. One with `quiet_minutes` runs that long,
and without faults. Prints a table of mutant, file, rule that it breaks, and seed, and writes it to
build/bench/district_mutants.json. Exit code 1 if a mutant survives.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = Path(__file__).with_suffix(".toml")
SEEDS, DEVICES, MINUTES, INTENSITY = 16, 6, 8, 3

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench")]
import bench_rows  # noqa: E402

from tests.support import mutants as single_faults  # noqa: E402


class _Detected(Exception):
    """A run shows a violation."""


def run_seeds(mutant: dict[str, str]) -> dict[str, Any]:
    """Run seeds until one shows a violation; return seed, rule and text. This process has the mutant."""
    single_faults.activate(mutant)
    from patrolink.emulator.scenarios.district.faults import NO_FAULTS, DistrictFaults
    from patrolink.emulator.scenarios.district.simulation import District

    faults = DistrictFaults(*(hours / INTENSITY for hours in dataclasses.astuple(DistrictFaults())))
    minutes = MINUTES
    if "quiet_minutes" in mutant:
        minutes, faults = int(mutant["quiet_minutes"]), NO_FAULTS
    for seed in range(1, SEEDS + 1):
        district = District(DEVICES, minutes / 60, seed, faults)

        def stop_early(part: float, district: District = district) -> None:
            if district.violations:
                raise _Detected

        try:
            district.run(stop_early)
        except _Detected:
            pass
        except Exception as e:  # a fault may break the simulation itself
            return {"seed": seed, "rule": "exception", "text": f"{type(e).__name__}: {e}"}
        if district.violations:
            return {"seed": seed, "rule": district.violations[0].rule, "text": district.violations[0].text}
    return {"seed": 0, "rule": "", "text": f"survived {SEEDS} seeds"}


def _start(number: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--number", str(number)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        outcome: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"seed": 0, "rule": "", "text": (result.stderr.splitlines() or ["no output"])[-1]}
    return outcome


def main(part: str, jobs: int) -> int:
    """Run all mutants whose name has the part; print a line each; return the exit code."""
    mutants = [(number, mutant) for number, mutant in enumerate(single_faults.load(MUTANTS)) if part in mutant["name"]]
    start, rows = time.perf_counter(), []
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda entry: _start(entry[0]), mutants)
        for (_, mutant), outcome in zip(mutants, results, strict=True):
            rows.append({**bench_rows.row(mutant["name"], outcome["seed"], "seed"), "file": mutant["file"], **outcome})
            verdict = f"{outcome['rule']} (seed {outcome['seed']})" if outcome["seed"] else "SURVIVED"
            print(f"{mutant['name']} | {mutant['file']} | {verdict} | {outcome['text']}", flush=True)
    caught = sum(row["seed"] > 0 for row in rows)
    print(f"caught {caught} of {len(rows)} mutants; {time.perf_counter() - start:.0f} s")
    if not part:
        bench_rows.save("district_mutants", [bench_rows.row("mutants caught", caught, f"of {len(rows)}"), *rows])
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.number is not None:
        print(json.dumps(run_seeds(single_faults.load(MUTANTS)[options.number])))
    else:
        sys.exit(main(" ".join(options.part), options.jobs))
