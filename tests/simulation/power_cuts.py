"""Cuts the power of the outbox at every operation of many seeded runs and counts lost frames.

usage: python tests/simulation/power_cuts.py [CUTS]     default 10,000

A run puts 60 frames of random sizes and lanes, and acknowledges some of them. An operation is a byte written or a
file created, renamed or removed. With a quota the outbox may thin positions; here it is never reached, and no frame
may be missing.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / folder))

import test_outbox  # noqa: E402


def main(target: int) -> int:
    cuts = missing = seed = 0
    slowest = 0.0
    while cuts < target:
        seed += 1
        at = 0
        while True:
            start = time.perf_counter()
            ended, lost = test_outbox.check_cut(seed, at, quota=1 << 20)
            slowest = max(slowest, time.perf_counter() - start)
            if ended:
                break
            cuts += 1
            missing += len(lost)
            at += 1
    print(f"{cuts} power cuts in {seed} runs: {missing} accepted frames lost, none delivered damaged; ", end="")
    print(f"run, cut and recovery took {slowest * 1000:.1f} ms at most")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
