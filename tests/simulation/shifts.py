"""Simulates shifts of firmware in lock-step with all faults, and checks that a seed repeats its trace.

usage: python tests/simulation/shifts.py [SEED [HOURS]]     default 8 hours

Exit code 1 if an invariant is violated. Each place has one shift with its own seed. The first shift runs twice, and
its trace (all bytes on the lines of the board, with times) must be the same. Shifts run in parallel on all cores.
"""

import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from patrolink.core import boards
from patrolink.core.errors import UserError
from patrolink.emulator.boards import qemu
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios.outcome import Faults
from patrolink.emulator.scenarios.shift import Shift, ShiftReport

BOARD = "mps2_an385"
PLACES = ("city", "village", "handover", "lift")
SOS_PER_H = 1
# Half of the power cuts happen during a flash operation.
FAULTS = replace(Faults(), power_cut_h=1, brown_out_h=2, sim_pulled_h=4, broker_restart_h=3, broker_mute_h=3)


def shift(place: str, dialect: str, seed: int, hours: float) -> tuple[ShiftReport, float]:
    """Return the report of a shift with random SOS presses, and its duration in seconds."""
    start_s = time.monotonic()
    presses = random.Random(f"presses {seed}")
    sos_h = tuple(sorted(presses.uniform(0.02, hours) for _ in range(round(SOS_PER_H * hours))))
    report = Shift(boards.find(BOARD), PROFILES[place], seed, dialect, FAULTS, place, sos_h=sos_h).run(hours)
    return report, time.monotonic() - start_s


def main(seed: int, hours: float) -> int:
    try:
        qemu.build_image(boards.find(BOARD))
    except UserError as e:
        print(f"skipped: cannot build the firmware: {e}", file=sys.stderr)
        return 0
    plans = [(place, ("quectel", "simcom")[i % 2], seed + i) for i, place in enumerate(PLACES)]
    wrong = 0
    traces: dict[int, str] = {}
    with ProcessPoolExecutor() as pool:
        runs = [(plan, pool.submit(shift, *plan, hours)) for plan in (*plans, plans[0])]
        for (place, dialect, number), run in runs:
            try:
                report, duration_s = run.result()
            except UserError as e:
                print(f"{place}, {dialect}, seed {number}: {e}", flush=True)
                wrong += 1
                continue
            if traces.setdefault(number, report.trace) != report.trace:
                report.problems.append("a second run with this seed has another trace")
            wrong += not report.clean
            values = {**report.json(), "took_s": round(duration_s, 1)}
            print(", ".join(f"{name} {value}" for name, value in values.items() if value), flush=True)
    print(f"{len(runs)} shifts of {hours:g} hours, {wrong} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(int(arguments[0]) if arguments else 2026, float(arguments[1]) if len(arguments) > 1 else 8))
