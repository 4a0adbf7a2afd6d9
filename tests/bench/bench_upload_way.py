"""What an upload leaves standing on ways of many kinds, under the kernel's own TCP, with the official tus server.

python tests/bench/bench_upload_way.py [seconds a way, 150]    writes build/bench/upload_way.json

Each way is a bottleneck in a network namespace of its own (way.py); all at once, on a machine that does nothing else.
What a packet of voice would wait there is looked at every 5 ms. Bar, where nothing is lost: 80 % of the way, and 40 ms
for 95 % of the packets.
"""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
S = int(sys.argv[1]) if len(sys.argv) > 1 else 150
WAYS = {
    "1 Mbit/s": (1000, 100, 20, 0.0, 0),
    "1 Mbit/s, city": (1000, 100, 80, 1.0, 0),
    "10 Mbit/s, city": (10_000, 100, 80, 1.0, 0),
    "10 Mbit/s, 300 ms": (10_000, 300, 20, 0.5, 0),
    "64 kbit/s, village": (64, 120, 60, 1.0, 0),
    "1 Mbit/s, then 300 kbit/s": (1000, 100, 20, 0.5, 300),
    "1 Mbit/s, then 64 kbit/s": (1000, 100, 20, 0.5, 64),
}
BAR_PCT, BAR_MS = 80, 40


def run(way: tuple[int, int, int, float, int]) -> dict:
    """Upload over a way; return its figures."""
    given = dict(zip(("kbps", "rtt_ms", "jitter_ms", "lost_pct", "then_kbps"), way, strict=True))
    given |= {"s": S, "runtime": sys.executable}
    command = ["unshare", "-rn", sys.executable, str(Path(__file__).with_name("bottleneck.py")), json.dumps(given)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    may = (
        subprocess.run(["unshare", "-rn", "test", "-w", "/dev/net/tun"], check=False)
        if shutil.which("unshare")
        else None
    )
    if may is None or may.returncode or not shutil.which("ip") or not (ROOT / "build" / "node" / "ready").exists():
        print(
            "skipped: uploads over ways of many kinds; user namespaces, /dev/net/tun, iproute2 and make node",
            flush=True,
        )
        return
    with ThreadPoolExecutor(len(WAYS)) as pool:
        figures = dict(zip(WAYS, pool.map(run, WAYS.values()), strict=True))
    out = ROOT / "build" / "bench" / "upload_way.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, values in figures.items():
        print(f"{name}: {json.dumps(values)}", flush=True)
    clean = figures["1 Mbit/s"]
    if clean["kbps"] < 1000 * BAR_PCT / 100 or clean["wait_ms"]["p95"] > BAR_MS:
        print(f"missed: 1 Mbit/s: {BAR_PCT} % of the way, and p95 of {BAR_MS} ms", flush=True)


if __name__ == "__main__":
    main()
