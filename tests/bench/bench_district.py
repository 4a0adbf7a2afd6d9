"""Measure the CPU time and the memory of simulated districts: `patrolink emulate --district N --hours H`.

Writes build/bench/district.json. Limit: 1,124 devices for an hour in 10 minutes.

python tests/bench/bench_district.py [DEVICES HOURS]     default: 10 devices for 10 minutes, and 1,124 for an hour
"""

import os
import sys
from pathlib import Path

import bench_rows

COMMAND = Path(sys.executable).with_name("patrolink")
SEED = 1


def run(devices: int, hours: float) -> list[dict]:
    """Run a district in a process of its own and return its rows."""
    arguments = ["emulate", "--district", str(devices), "--hours", str(hours), "--seed", str(SEED), "--json"]
    no_output = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(COMMAND, [str(COMMAND), *arguments], os.environ, file_actions=no_output)
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"patrolink {' '.join(arguments)} failed")
    cpu_s = usage.ru_utime + usage.ru_stime
    name = f"{devices} devices, {hours:g} h"
    return [
        bench_rows.row(f"{name}: CPU time", round(cpu_s, 1), "s"),
        bench_rows.row(f"{name}: CPU time per device hour", round(cpu_s / devices / hours, 2), "s"),
        bench_rows.row(f"{name}: peak memory", round(usage.ru_maxrss / 1024), "MiB"),
    ]


def main(sizes: list[tuple[int, float]]) -> None:
    """Measure districts, each given by its devices and hours."""
    bench_rows.write("district", [row for devices, hours in sizes for row in run(devices, hours)])


if __name__ == "__main__":
    main([(int(sys.argv[1]), float(sys.argv[2]))] if len(sys.argv) > 2 else [(10, 1 / 6), (1124, 1.0)])
