"""What cuts cost an upload: bytes given to the connection against the file's, with the official tus server.

python tests/bench/bench_upload.py [MB]    20 MB over an uplink of 1 Mbit/s and 50 ms, cut every 10 s
"""

import hashlib
import json
import random
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

ROOT = Path(__file__).parents[2]
KBPS, DELAY_S, CUT_S, QUEUE = 1000, 0.05, 10.0, 65536
SEED = 20261125


class Uplink:
    """TCP to 127.0.0.1:`target` whose way up has a rate, a delay and a queue; a cut loses what is under way."""

    def __init__(self, target: int) -> None:
        self.target, self.cuts, self.received = target, 0, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        cut = time.monotonic() + CUT_S
        while True:
            near, _ = self.server.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            self.carry(near, far, cut)
            near.close()
            far.close()
            if time.monotonic() >= cut:
                self.cuts += 1
                cut = time.monotonic() + CUT_S

    def carry(self, near: socket.socket, far: socket.socket, cut: float) -> None:
        queue: deque[tuple[float, bytes]] = deque()
        queued, free = 0, 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(far, selectors.EVENT_READ)
            while (now := time.monotonic()) < cut:
                room = queued < QUEUE
                if room and near not in selector.get_map():
                    selector.register(near, selectors.EVENT_READ)
                elif not room and near in selector.get_map():
                    selector.unregister(near)
                for key, _ in selector.select(0.002):
                    try:
                        data = key.fileobj.recv(1400)  # type: ignore[union-attr]
                    except OSError:
                        return
                    if not data:
                        return
                    if key.fileobj is far:
                        near.sendall(data)
                        continue
                    self.received += len(data)
                    free = max(free, now) + len(data) * 8 / KBPS / 1000
                    queue.append((free + DELAY_S, data))
                    queued += len(data)
                while queue and queue[0][0] <= now:
                    data = queue.popleft()[1]
                    queued -= len(data)
                    far.sendall(data)


def run(python: list[str], data: bytes) -> dict[str, object]:
    """Upload once; return the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder, film = Path(name) / "tus", Path(name) / "film.pls"
        folder.mkdir()
        film.write_bytes(data)
        script = ROOT / "tests" / "integration" / "tus_server.mjs"
        command = ["node", str(script), str(folder), str(ROOT / "build" / "node")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            uplink = Uplink(int(server.stdout.readline()))
            given = {"host": "127.0.0.1", "port": uplink.port, "path": "/clips", "kbps": KBPS, "file": str(film)}
            given |= {"sha256": hashlib.sha256(data).hexdigest(), "s": 600}
            pipe = ROOT / "tests" / "integration" / "upload_pipe.py"
            begun = time.monotonic()
            told = Path(name) / "upload.json"
            told.write_text(json.dumps(given))
            result = subprocess.run([*python, str(pipe), str(told)], stdout=subprocess.PIPE, check=True)
            took = time.monotonic() - begun
            server.kill()
        said = json.loads(result.stdout)
        whole = [path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"] == [data]
    extra = 100 * (said["sent"] - len(data)) / len(data)
    return {
        "whole": whole,
        "bytes": len(data),
        "sent": said["sent"],
        "extra_pct": round(extra, 2),
        "cuts": uplink.cuts,
    } | {
        "took_s": round(took, 1),
        "longest_step_ms": said["longest_ms"],
    }


def main() -> None:
    size = int(float(sys.argv[1]) * 1_000_000) if len(sys.argv) > 1 else 20_000_000
    data = random.Random(SEED).randbytes(size)
    figures = run([sys.executable], data)
    out = ROOT / "build" / "bench" / "upload.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"seed": SEED, "cpython": figures}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
