"""Upload through a bottleneck with kernel TCP, in a separate network namespace. bench_upload_paths.py runs it.

unshare -rn python bottleneck.py JSON    {"kbps", "rtt_ms", "jitter_ms", "lost_pct", "then_kbps" or 0, "s", "runtime"}

The device sends packets to FAR. They go through a TUN, which swaps the two addresses, and arrive at NEAR, where the hub
listens. The checksums stay valid. Prints one line of JSON at the end.
"""

import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEAR, FAR = "10.9.0.1", "10.9.0.2"
SEED = 6817
QUEUE_MS = 3000  # capacity of the bottleneck
SETTLE_S = 40  # seconds before the measurement starts
PROBE_S = 0.005
_TUNSETIFF, _TUN_WITHOUT_INFO = 0x400454CA, 0x1001
_TCP = 6


class Bottleneck(threading.Thread):
    """Forwards the packets of the TUN.

    Attributes:
        bytes: Number of bytes sent to the hub, with headers.
        waits: Time in ms that a voice packet would have waited, sampled every PROBE_S.
    """

    def __init__(self, tun: int, port: int, settings: dict) -> None:
        super().__init__(daemon=True)
        self.tun, self.port, self.settings, self.kbps = tun, port, settings, settings["kbps"]
        self.bytes = 0
        self.waits: list[float] = []
        self.idle_ms = 0.0

    def run(self) -> None:
        rng, order, probe = random.Random(SEED), itertools.count(), 0.0
        in_flight: list[tuple[float, int, bytes]] = []
        last = {True: 0.0, False: 0.0}
        while True:
            now = time.monotonic() * 1000
            if now >= probe:
                self.waits.append(max(0.0, self.idle_ms - now))
                probe = now + PROBE_S * 1000
            due = min(probe, in_flight[0][0]) if in_flight else probe
            if select.select([self.tun], [], [], max(0.0, due - now) / 1000)[0]:
                packet = os.read(self.tun, 4096)
                at = self._arrival_ms(packet, rng, last)
                if at is not None:
                    swapped = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
                    heapq.heappush(in_flight, (at, next(order), swapped))
            while in_flight and in_flight[0][0] <= time.monotonic() * 1000:
                os.write(self.tun, heapq.heappop(in_flight)[2])

    def _arrival_ms(self, packet: bytes, rng: random.Random, last: dict[bool, float]) -> float | None:
        """Return the arrival time of a packet in ms, or None if it is lost. Packets stay in order, as on a radio."""
        if packet[0] >> 4 != 4 or packet[9] != _TCP:
            return None
        now = time.monotonic() * 1000
        up = struct.unpack_from(">H", packet, (packet[0] & 15) * 4 + 2)[0] == self.port
        if up:
            if self.idle_ms - now > QUEUE_MS:
                return None
            now = self.idle_ms = max(self.idle_ms, now) + len(packet) * 8 / self.kbps
            self.bytes += len(packet)
        if rng.random() * 100 < self.settings["lost_pct"]:
            return None
        last[up] = max(last[up], now + (self.settings["rtt_ms"] + rng.random() * self.settings["jitter_ms"]) / 2)
        return last[up]


def main() -> None:
    settings = json.loads(sys.argv[1])
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", b"path", _TUN_WITHOUT_INFO))
    for words in ("link set lo up", f"addr add {NEAR}/24 dev path", "link set path up"):
        subprocess.run(["ip", *words.split()], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder, segment, request = (Path(name) / part for part in ("tus", "film.pls", "upload.json"))
        folder.mkdir()
        segment.write_bytes(random.Random(SEED).randbytes(settings["s"] * 125_000))
        tests = ROOT / "tests" / "integration" / "clips"
        command = ["node", str(tests / "tus_server.mjs"), str(folder), str(ROOT / "build" / "node")]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TUS_HOST": NEAR})
        assert server.stdout is not None
        port = int(server.stdout.readline())
        upload = {"host": FAR, "port": port, "path": "/clips", "kbps": 1000, "file": str(segment), "sha256": "00" * 32}
        request.write_text(json.dumps(upload | {"s": settings["s"]}))
        bottleneck = Bottleneck(tun, port, settings)
        bottleneck.start()
        device = subprocess.Popen(
            [settings["runtime"], str(tests / "upload_pipe.py"), str(request)], stdout=subprocess.PIPE
        )
        time.sleep(SETTLE_S)
        bottleneck.kbps = settings["then_kbps"] or bottleneck.kbps
        at, sent, start_s = len(bottleneck.waits), bottleneck.bytes, time.monotonic()
        time.sleep(settings["s"] - SETTLE_S - 1)
        waits, sent, duration_s = bottleneck.waits[at:], bottleneck.bytes - sent, time.monotonic() - start_s
        for process in (device, server):
            process.kill()
            process.wait()
    long_waits = [i for i, ms in enumerate(waits) if ms > 250]
    waits.sort()
    p50, p90, p95, p99 = (round(waits[len(waits) * pct // 100]) for pct in (50, 90, 95, 99))
    figures = {"kbps": round(sent * 8 / duration_s / 1000), "wait_ms": {"p50": p50, "p90": p90, "p95": p95, "p99": p99}}
    if settings["then_kbps"]:
        figures["last_wait_over_250_ms_after_s"] = (
            round((long_waits[-1] + 1) * duration_s / len(waits), 1) if long_waits else 0
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
