"""Floor control under loss, reordering, duplication, changes of address, restarts and power cuts: many seeds.

python tests/simulation/ptt_floor.py [SEEDS [FIRST]]     10,000 from 1 unless said; exit code 1 when one goes wrong

What must hold stands in ptt_sim.py, ptt_server.py and ptt_handset.py. A failure prints its seed and the last messages.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for room in ("", "device"):
    sys.path.insert(0, str(ROOT / room))

from tests.simulation import ptt_group  # noqa: E402

_TOLD = 5  # failures that are printed


def main(seeds: int, first: int) -> int:
    start = time.perf_counter()
    wrong = presses = messages = 0
    totals: dict[str, int] = {}
    virtual_ms = 0.0
    for seed in range(first, first + seeds):
        world = ptt_group.World(seed)
        try:
            world.run()
        except ptt_group.Wrong as e:
            wrong += 1
            if wrong <= _TOLD:
                print(e, file=sys.stderr)
        presses += sum(len(h.presses) for h in world.handsets)
        messages += world.messages
        virtual_ms += world.scheduler.now
        for outcome, n in world.outcomes().items():
            totals[outcome] = totals.get(outcome, 0) + n
    spent = time.perf_counter() - start
    print(
        f"floor control: seeds {first} to {first + seeds - 1}, {wrong} went wrong; "
        + f"{presses} presses, {messages} messages; "
        + ", ".join(f"{name} {n}" for name, n in sorted(totals.items()))
        + f"; {virtual_ms / 1000 / spent:.0f} times real time"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    sys.exit(main(*(given + [10_000, 1][len(given) :])))
