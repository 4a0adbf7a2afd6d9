"""Simulates 100 hours with all faults, 10 in each place with each modem, and prints a table of losses.

usage: python tests/simulation/hundred_hours.py [SEED]

Exit code 1 if anything was lost, duplicated or left undelivered.
"""

import sys

from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios.outcome import Faults
from patrolink.emulator.scenarios.simulation import Simulation

HOURS = 10
SUMMED = ("recorded", "delivered", "duplicated", "thinned", "lost", "waiting", "resent", "fixes")


def main(seed: int) -> int:
    wrong = 0
    totals = dict.fromkeys(SUMMED, 0)
    for profile in PROFILES:
        for dialect in ("quectel", "simcom"):
            seed += 1
            sim = Simulation(PROFILES[profile], seed, dialect, Faults(), name=profile)
            for hour in range(HOURS):
                sim.scheduler.at((hour + sim.random.random()) * 3_600_000, sim.press_sos)
            report = sim.run(HOURS)
            wrong += not report.clean
            values = report.json()
            print(", ".join(f"{name} {value}" for name, value in values.items() if value not in (0, None)), flush=True)
            for name in totals:
                totals[name] += values[name]
    print(f"{HOURS * 2 * len(PROFILES)} hours: " + ", ".join(f"{name} {n}" for name, n in totals.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2026))
