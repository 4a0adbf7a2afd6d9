"""Measure the start of `patrolink` and of its peers, mpremote and esptool, in the same run.

    python tests/bench/bench_cli.py [rounds, 20]    prints the results and writes build/bench/cli.json

A round starts every program once, so that a change in the load of the machine affects all of them. Limit: `--version`
takes at most 1.2 times as long as mpremote's; the exit code is 1 otherwise.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RATIO_MAX = 1.2
BIN = Path(sys.executable).parent
JOBS = {
    "version": {"patrolink": ["--version"], "mpremote": ["--version"], "esptool": ["version"]},
    "help": {"patrolink": ["--help"], "mpremote": ["--help"], "esptool": ["--help"]},
    "list ports": {"patrolink": ["devices"], "mpremote": ["devs"]},
}


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command and return wall time and CPU time in ms."""
    before, start_s = os.times(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    wall_s, after = time.perf_counter() - start_s, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s * 1000, cpu_s * 1000


def main(rounds: int) -> int:
    """Measure all jobs, and return the exit code."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for job, programs in JOBS.items():
        samples: dict[str, list[tuple[float, float]]] = {program: [] for program in programs}
        for _ in range(rounds + 1):
            for program, arguments in programs.items():
                samples[program].append(measure([str(BIN / program), *arguments]))
        # The first round fills the file system's cache. CPU time is counted in ticks: only its mean is exact.
        figures[job] = {
            program: {
                "wall_ms": round(statistics.median(wall for wall, _ in values[1:]), 1),
                "cpu_ms": round(statistics.mean(cpu for _, cpu in values[1:]), 1),
            }
            for program, values in samples.items()
        }
        for program, values in figures[job].items():
            ratio = values["wall_ms"] / figures[job]["mpremote"]["wall_ms"]
            values["ratio"] = round(ratio, 2)
            print(f"{job}: {program}: {values['wall_ms']} ms, CPU {values['cpu_ms']} ms, {ratio:.2f} x mpremote")
    path = ROOT / "build" / "bench" / "cli.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rounds": rounds, "python": sys.version.split()[0], **figures}, indent=2) + "\n")
    return 0 if figures["version"]["patrolink"]["ratio"] <= RATIO_MAX else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
