"""Measure the queues that an upload causes on several network paths, with kernel TCP and the official tus server.

python tests/bench/bench_upload_paths.py [seconds per path, 150]    writes build/bench/upload_way.json

Each path is a bottleneck in a separate network namespace (bottleneck.py). All paths run at the same time, so the
machine must be idle otherwise. Every 5 ms the bench samples how long a voice packet would wait. Limits on a path
without loss: at least 80 % of the rate is used, and p95 of the wait is at most 40 ms.
"""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 150
PATHS = {
    "1 Mbit/s": (1000, 100, 20, 0.0, 0),
    "1 Mbit/s, city": (1000, 100, 80, 1.0, 0),
    "10 Mbit/s, city": (10_000, 100, 80, 1.0, 0),
    "10 Mbit/s, 300 ms": (10_000, 300, 20, 0.5, 0),
    "64 kbit/s, village": (64, 120, 60, 1.0, 0),
    "1 Mbit/s, then 300 kbit/s": (1000, 100, 20, 0.5, 300),
    "1 Mbit/s, then 64 kbit/s": (1000, 100, 20, 0.5, 64),
}
USED_PCT_MIN, WAIT_MS_MAX = 80, 40


def run(path: tuple[int, int, int, float, int]) -> dict:
    """Upload over a path and return its figures."""
    settings = dict(zip(("kbps", "rtt_ms", "jitter_ms", "lost_pct", "then_kbps"), path, strict=True))
    settings |= {"s": SECONDS, "runtime": sys.executable}
    command = ["unshare", "-rn", sys.executable, str(Path(__file__).with_name("bottleneck.py")), json.dumps(settings)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    namespaces = (
        subprocess.run(["unshare", "-rn", "test", "-w", "/dev/net/tun"], check=False)
        if shutil.which("unshare")
        else None
    )
    if (
        namespaces is None
        or namespaces.returncode
        or not shutil.which("ip")
        or not (ROOT / "build" / "node" / "ready").exists()
    ):
        print(
            "skipped: uploads over several paths; they need user namespaces, /dev/net/tun, iproute2 and `make node`",
            flush=True,
        )
        return
    with ThreadPoolExecutor(len(PATHS)) as pool:
        figures = dict(zip(PATHS, pool.map(run, PATHS.values()), strict=True))
    out = ROOT / "build" / "bench" / "upload_way.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, values in figures.items():
        print(f"{name}: {json.dumps(values)}", flush=True)
    lossless = figures["1 Mbit/s"]
    if lossless["kbps"] < 1000 * USED_PCT_MIN / 100 or lossless["wait_ms"]["p95"] > WAIT_MS_MAX:
        print(f"missed: 1 Mbit/s: the limits are {USED_PCT_MIN} % of the rate and p95 of {WAIT_MS_MAX} ms", flush=True)


if __name__ == "__main__":
    main()
