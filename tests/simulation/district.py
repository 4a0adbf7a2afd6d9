"""Districts on a virtual clock, for many seeds: see `patrolink emulate --district`.

python tests/simulation/district.py [SEEDS [FIRST [DEVICES [MINUTES]]]] [--jobs N]
                                                    default: 40 seeds from 1, 10 devices, 10 min, a job for each core

Runs seeds side by side, with progress on standard error. Prints one summary row and writes it to
build/bench/district_seeds.json. Exit code 1 if a seed breaks an invariant: each such seed is printed with the command
that repeats it.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from patrolink.emulator.scenarios.district.invariants import Violation
from patrolink.emulator.scenarios.district.simulation import District

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import bench_rows  # noqa: E402

_FACTS = ("devices", "hours", "seed", "trace_sha256")
_PROGRESS_S = 10


def run(job: tuple[int, int, int]) -> tuple[int, dict[str, Any], list[Violation]]:
    """Run one seed, given as (devices, minutes, seed); return the seed, its report and its violations."""
    devices, minutes, seed = job
    district = District(devices, minutes / 60, seed)
    return seed, district.run(), district.violations


def main(arguments: list[str]) -> int:
    """Run all seeds and print what they show; return the exit code."""
    parser = argparse.ArgumentParser()
    for name, default in (("seeds", 40), ("first", 1), ("devices", 10), ("minutes", 10)):
        parser.add_argument(name, nargs="?", type=int, default=default)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    start = shown = time.perf_counter()
    sums: Counter[str] = Counter()
    failed = 0
    # Not concurrent.futures: with max_tasks_per_child it can wait for ever (python/cpython#115634).
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=20) as pool:
        jobs = [(options.devices, options.minutes, seed) for seed in seeds]
        for done, (seed, report, violations) in enumerate(pool.imap_unordered(run, jobs), 1):
            sums.update({name: value for name, value in report.items() if name not in _FACTS})
            if violations:
                failed += 1
                command = f"patrolink emulate --district {options.devices} --hours {options.minutes / 60!r}"
                print(
                    f"seed {seed}: {violations[0].rule}: {violations[0].text}; {command} --seed {seed}",
                    file=sys.stderr,
                )
            if time.perf_counter() - shown >= _PROGRESS_S or done == len(jobs):
                shown = time.perf_counter()
                print(f"{done} of {len(jobs)} seeds, {failed} failed, {shown - start:.0f} s", file=sys.stderr)
    hours = round(options.seeds * options.minutes / 60, 2)
    values = {"seeds": options.seeds, "devices": options.devices, "hours": hours, "violations": sums.pop("violations")}
    print(", ".join(f"{name} {value}" for name, value in sorted(sums.items())), file=sys.stderr)
    print(f"district: {', '.join(f'{name} {value}' for name, value in values.items())}")
    bench_rows.save("district_seeds", [bench_rows.row(name, value, "") for name, value in values.items()])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
