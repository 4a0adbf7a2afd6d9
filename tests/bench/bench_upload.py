"""Measure the extra bytes of an upload whose connection is cut, with the official tus server.

python tests/bench/bench_upload.py [MB, 20]    writes build/bench/upload.json

The uplink has 1 Mbit/s and a round trip of 100 ms, and is cut every 10 s; each cut loses the data in flight. Both
runtimes are measured at the same time. Limit: 3 % more bytes than the size of the file.
"""

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from patrolink.core import resources  # noqa: E402
from patrolink.emulator.network.carrier import Profile  # noqa: E402
from patrolink.emulator.network.tcp_gate import TcpGate  # noqa: E402
from patrolink.emulator.network.udp_gate import HOST, Radio, UdpGate  # noqa: E402

KBPS, CUT_S, TIMEOUT_S = 1000, 10.0, 1200
UPLINK = Profile(100, 0, 0.0, KBPS, 10_000)
SEED = 20261125
EXTRA_PCT_MAX = 3
TESTS = ROOT / "tests" / "integration" / "clips"


def run(runtime: str, data: bytes) -> dict[str, object]:
    """Upload once and return the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder, segment, request = (Path(name) / part for part in ("tus", "film.pls", "upload.json"))
        folder.mkdir()
        segment.write_bytes(data)
        command = ["node", str(TESTS / "tus_server.mjs"), str(folder), str(ROOT / "build" / "node")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            gate = UdpGate((), UPLINK, SEED)
            radio = Radio(gate, UPLINK, SEED)
            tcp_gate = TcpGate(gate, int(server.stdout.readline()), lambda: radio)
            settings = {
                "host": HOST,
                "port": tcp_gate.port,
                "path": "/clips",
                "kbps": KBPS,
                "file": str(segment),
                "s": TIMEOUT_S,
            }
            request.write_text(json.dumps(settings | {"sha256": hashlib.sha256(data).hexdigest()}))
            begin, cuts = time.monotonic(), 0
            pipe = [*resources.interpreter(runtime), str(TESTS / "upload_pipe.py"), str(request)]
            with subprocess.Popen(pipe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as device:
                while True:
                    try:
                        result = json.loads(device.communicate(timeout=CUT_S)[0])
                        break
                    except subprocess.TimeoutExpired:
                        tcp_gate.cut()
                        cuts += 1
            duration_s = time.monotonic() - begin
            tcp_gate.close()
            gate.close()
            server.kill()
        complete = [path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"] == [data]
    return {
        "whole": complete,
        "bytes": len(data),
        "sent": result["sent"],
        "extra_pct": round(100 * (result["sent"] - len(data)) / len(data), 2),
        "cuts": cuts,
        "took_s": round(duration_s, 1),
        "longest_step_ms": result["longest_ms"],
    }


def main() -> None:
    if not (ROOT / "build" / "node" / "ready").exists():
        print("skipped: uploads to the tus server; run `apt-get install nodejs npm` and `make node`", flush=True)
        return
    size = int(float(sys.argv[1]) * 1_000_000) if len(sys.argv) > 1 else 20_000_000
    data = random.Random(SEED).randbytes(size)
    runtimes = ("cpython", "micropython")
    with ThreadPoolExecutor() as pool:
        figures = dict(zip(runtimes, pool.map(lambda runtime: run(runtime, data), runtimes), strict=True))
    out = ROOT / "build" / "bench" / "upload.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"seed": SEED, **figures}, indent=2) + "\n", encoding="utf-8")
    for runtime, values in figures.items():
        print(f"{runtime}: {json.dumps(values)}")
        if not values["whole"] or float(str(values["extra_pct"])) > EXTRA_PCT_MAX:
            print(f"missed: {runtime}: the file must be complete, with at most {EXTRA_PCT_MAX} % extra bytes")


if __name__ == "__main__":
    main()
