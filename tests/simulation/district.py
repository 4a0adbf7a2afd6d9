"""Districts on a virtual clock, for many seeds: see `patrolink emulate --district`.

python tests/simulation/district.py [SEEDS [FIRST [DEVICES [MINUTES]]]]     default: 40 seeds from 1, 10 devices, 10 min

Runs seeds side by side, one per core. Exit code 1 if a seed breaks an invariant; each is printed with the command that
repeats it.
"""

import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from patrolink.emulator.scenarios.district.invariants import Violation
from patrolink.emulator.scenarios.district.simulation import District

_DEFAULTS = (40, 1, 10, 10)
_FACTS = ("devices", "hours", "seed", "trace_sha256")


def run(devices: int, minutes: int, seed: int) -> tuple[dict, list[Violation]]:
    """Run one seed; return its report and its violations."""
    district = District(devices, minutes / 60, seed)
    return district.run(), district.violations


def main(seeds: int, first: int, devices: int, minutes: int) -> int:
    """Run all seeds and print what they show; return the exit code."""
    start = time.perf_counter()
    sums: Counter[str] = Counter()
    failed = 0
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=20) as pool:
        jobs = {seed: pool.submit(run, devices, minutes, seed) for seed in range(first, first + seeds)}
        for seed, job in jobs.items():
            report, violations = job.result()
            sums.update({name: value for name, value in report.items() if name not in _FACTS})
            if violations:
                failed += 1
                command = f"patrolink emulate --district {devices} --hours {minutes / 60:.4f} --seed {seed}"
                print(f"seed {seed}: {violations[0].rule}: {violations[0].text}; {command}", file=sys.stderr)
    elapsed_s = time.perf_counter() - start
    print(
        f"district: {seeds} seeds from {first}, {devices} devices, {minutes} min: {failed} failed, "
        f"{sums.pop('violations')} violations; {elapsed_s:.0f} s; "
        + ", ".join(f"{name} {value}" for name, value in sorted(sums.items()))
    )
    return 1 if failed else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:5]]
    sys.exit(main(*arguments, *_DEFAULTS[len(arguments) :]))
