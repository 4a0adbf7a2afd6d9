"""Floor control under loss, reordering, duplication, changes of address, restarts and power cuts, for many seeds.

python tests/simulation/ptt_floor.py [SEEDS [FIRST]]     default: 10,000 seeds from 1; exit code 1 if one fails

The invariants are in ptt_group.py, ptt_server.py and ptt_device.py. A failure prints its seed and the last messages.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("", "device"):
    sys.path.insert(0, str(ROOT / folder))

from tests.simulation import ptt_group  # noqa: E402

_PRINT_MAX = 5  # failures


def main(seeds: int, first: int) -> int:
    start = time.perf_counter()
    failures = presses = messages = 0
    totals: dict[str, int] = {}
    virtual_ms = 0.0
    for seed in range(first, first + seeds):
        simulation = ptt_group.GroupSimulation(seed)
        try:
            simulation.run()
        except ptt_group.InvariantError as e:
            failures += 1
            if failures <= _PRINT_MAX:
                print(e, file=sys.stderr)
        presses += sum(len(d.presses) for d in simulation.devices)
        messages += simulation.messages
        virtual_ms += simulation.scheduler.now
        for outcome, n in simulation.outcomes().items():
            totals[outcome] = totals.get(outcome, 0) + n
    elapsed_s = time.perf_counter() - start
    print(
        f"floor control: seeds {first} to {first + seeds - 1}, {failures} failed; "
        + f"{presses} presses, {messages} messages; "
        + ", ".join(f"{name} {n}" for name, n in sorted(totals.items()))
        + f"; {virtual_ms / 1000 / elapsed_s:.0f} times real time"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:3]]
    sys.exit(main(*(arguments + [10_000, 1][len(arguments) :])))
