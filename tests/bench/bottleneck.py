"""A way through a bottleneck under the kernel's own TCP, in a network namespace of its own (bench_upload_way.py).

unshare -rn python way.py JSON    {"kbps", "rtt_ms", "jitter_ms", "lost_pct", "then_kbps" or 0, "s", "runtime"}

What a device sends to FAR goes into a TUN and comes out of it as if FAR had sent it to NEAR, where the hub is: the two
addresses change places, so no checksum does. At its end it prints a line of JSON.
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
QUEUE_MS = 3000  # what the bottleneck holds
FOUND_S = 40  # until the rate is looked at
PROBE_S = 0.005
_TUNSETIFF, _TUN_WITHOUT_INFO = 0x400454CA, 0x1001
_TCP = 6


class Bottleneck(threading.Thread):
    """Carries the TUN's packets. `waits`: what a packet of voice would have waited, in ms, every PROBE_S."""

    def __init__(self, tun: int, port: int, given: dict) -> None:
        super().__init__(daemon=True)
        self.tun, self.port, self.given, self.kbps = tun, port, given, given["kbps"]
        self.bytes = 0  # towards the hub, with headers
        self.waits: list[float] = []
        self.free = 0.0

    def run(self) -> None:
        rng, order, probe = random.Random(SEED), itertools.count(), 0.0
        air: list[tuple[float, int, bytes]] = []
        last = {True: 0.0, False: 0.0}
        while True:
            now = time.monotonic() * 1000
            if now >= probe:
                self.waits.append(max(0.0, self.free - now))
                probe = now + PROBE_S * 1000
            due = min(probe, air[0][0]) if air else probe
            if select.select([self.tun], [], [], max(0.0, due - now) / 1000)[0]:
                packet = os.read(self.tun, 4096)
                at = self._through(packet, rng, last)
                if at is not None:
                    turned = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
                    heapq.heappush(air, (at, next(order), turned))
            while air and air[0][0] <= time.monotonic() * 1000:
                os.write(self.tun, heapq.heappop(air)[2])

    def _through(self, packet: bytes, rng: random.Random, last: dict[bool, float]) -> float | None:
        """Return when it comes out, None when it is lost. A radio keeps order."""
        if packet[0] >> 4 != 4 or packet[9] != _TCP:
            return None
        now = time.monotonic() * 1000
        up = struct.unpack_from(">H", packet, (packet[0] & 15) * 4 + 2)[0] == self.port
        if up:
            if self.free - now > QUEUE_MS:
                return None
            now = self.free = max(self.free, now) + len(packet) * 8 / self.kbps
            self.bytes += len(packet)
        if rng.random() * 100 < self.given["lost_pct"]:
            return None
        last[up] = max(last[up], now + (self.given["rtt_ms"] + rng.random() * self.given["jitter_ms"]) / 2)
        return last[up]


def main() -> None:
    given = json.loads(sys.argv[1])
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", b"way", _TUN_WITHOUT_INFO))
    for words in ("link set lo up", f"addr add {NEAR}/24 dev way", "link set way up"):
        subprocess.run(["ip", *words.split()], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder, film, told = (Path(name) / it for it in ("tus", "film.pls", "upload.json"))
        folder.mkdir()
        film.write_bytes(random.Random(SEED).randbytes(given["s"] * 125_000))
        tests = ROOT / "tests" / "integration" / "clips"
        command = ["node", str(tests / "tus_server.mjs"), str(folder), str(ROOT / "build" / "node")]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TUS_HOST": NEAR})
        assert server.stdout is not None
        port = int(server.stdout.readline())
        upload = {"host": FAR, "port": port, "path": "/clips", "kbps": 1000, "file": str(film), "sha256": "00" * 32}
        told.write_text(json.dumps(upload | {"s": given["s"]}))
        way = Bottleneck(tun, port, given)
        way.start()
        device = subprocess.Popen([given["runtime"], str(tests / "upload_pipe.py"), str(told)], stdout=subprocess.PIPE)
        time.sleep(FOUND_S)
        way.kbps = given["then_kbps"] or way.kbps
        at, sent, begun = len(way.waits), way.bytes, time.monotonic()
        time.sleep(given["s"] - FOUND_S - 1)
        waits, sent, took = way.waits[at:], way.bytes - sent, time.monotonic() - begun
        for process in (device, server):
            process.kill()
            process.wait()
    slow = [i for i, ms in enumerate(waits) if ms > 250]
    waits.sort()
    p50, p90, p95, p99 = (round(waits[len(waits) * pct // 100]) for pct in (50, 90, 95, 99))
    figures = {"kbps": round(sent * 8 / took / 1000), "wait_ms": {"p50": p50, "p90": p90, "p95": p95, "p99": p99}}
    if given["then_kbps"]:
        figures["last_wait_over_250_ms_after_s"] = round((slow[-1] + 1) * took / len(waits), 1) if slow else 0
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
