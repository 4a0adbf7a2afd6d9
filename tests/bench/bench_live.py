"""Measure a live view from the camera's picture to the decoded picture at the hub, over a simulated radio.

Writes build/bench/live.json.

The agent and the hub run on CPython, with real sockets: JPEG of 320x240 at 5 fps and H.264 of 480x352 at 15 fps, 20 s
each. Limit: at 200 kbit/s the median age of the pictures in the last 10 s is below 1 s.
"""

import asyncio
import dataclasses
import io
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import av
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "device"), str(ROOT)]

from agent.live_view import session  # noqa: E402
from compat.udp import UdpSocket  # noqa: E402
from hal.posix.h264_encoder import Encoder  # noqa: E402
from patrolink.core.clock import SystemClock, monotonic_ms  # noqa: E402
from patrolink.core.keys import DeviceKey  # noqa: E402
from patrolink.emulator.network.carrier import PROFILES, Profile  # noqa: E402
from patrolink.emulator.network.udp_gate import HOST, UdpGate  # noqa: E402
from patrolink.hub.infra.udp import bind_udp  # noqa: E402
from patrolink.hub.live.receiver import LiveReceiver  # noqa: E402
from patrolink.hub.live.stream import LiveStream, Picture  # noqa: E402
from patrolink_protocol.aes import encrypter  # noqa: E402

from tests.support.drawn_pictures import drawn_pictures  # noqa: E402
from tests.support.live_camera import FaultlessCamera, NoSelector, StreamRecorder  # noqa: E402

SEED, SECONDS, KBPS, ID, EXPIRES = 20261125, 20, 1000, 0xBEEF01, 1_795_000_000_123
SECRET = bytes(range(32))
NARROW = dataclasses.replace(PROFILES["city"], up_kbps=200)
AGE_MS_MAX = 1000


class AgeRecorder(StreamRecorder):
    """Decodes the pictures of a stream and records their ages."""

    def __init__(self, h264: bool) -> None:
        super().__init__()
        self.ages: list[tuple[int, int]] = []  # (time in ms, age in ms)
        self._decoder = av.CodecContext.create("h264", "r") if h264 else None
        if self._decoder is not None:
            self._decoder.thread_count = 1

    def on_picture(self, picture: Picture) -> None:
        if self._decoder is not None:
            decoded = self._decoder.decode(av.Packet(picture.data))
        else:
            decoded = [Image.open(io.BytesIO(picture.data)).convert("RGB")]
        now_ms = monotonic_ms()
        age_ms = (now_ms * 90 - picture.timestamp & 0xFFFFFFFF) // 90
        self.ages += [(now_ms, age_ms)] * len(decoded)


async def measure(profile: Profile, h264: bool) -> dict:
    """Run one live view and return its figures."""
    receiver, recorder = LiveReceiver(bind_udp("127.0.0.1", 0), Counter(), SystemClock()), AgeRecorder(h264)
    receiver.add(LiveStream("cam", DeviceKey(SECRET), ID, EXPIRES, 60_000, monotonic_ms(), 0, recorder))
    receiver.start()
    gate = UdpGate((receiver.port,), profile, SEED)
    fps = 15 if h264 else 5
    encoder, pictures = Encoder(640, 480, fps) if h264 else None, drawn_pictures(h264)
    live_view = session.LiveView(
        lambda host, port: UdpSocket(host, port, NoSelector()),
        encrypter,
        session.LiveViewKeys(SECRET, 0).derive,
        lambda text: None,
        FaultlessCamera(),
        KBPS,
        encoder,
    )
    begin, cpu, i = monotonic_ms(), 0.0, 0
    ok, text = live_view.start({"command_id": ID, "expires_ms": EXPIRES, "number": SECONDS}, HOST, receiver.port, begin)
    assert ok, text
    try:
        while live_view.running():
            start = time.thread_time()
            now = monotonic_ms()
            if now - begin >= i * 1000 // fps:
                live_view.picture(pictures[i % len(pictures)], now)
                i += 1
            live_view.serve(monotonic_ms())
            cpu += time.thread_time() - start
            await asyncio.sleep(0.004)
        await asyncio.sleep(1)
    finally:
        gate.close()
        receiver.close()
    late_ages = sorted(age for time_ms, age in recorder.ages if time_ms - begin > SECONDS * 500)
    return {
        "first picture ms": recorder.ages[0][0] - begin,
        "age ms median": int(statistics.median(late_ages)),
        "age ms p95": late_ages[len(late_ages) * 95 // 100],
        "pictures given": i,
        "pictures sent": live_view.sent,
        "pictures shown": len(recorder.ages),
        "packets": len(recorder.packets),
        "kbit/s": round(sum(map(len, recorder.packets)) * 8 / SECONDS / 1000),
        "rate at its end": live_view.kbps(),
        "agent's CPU %": round(100 * cpu / SECONDS, 1),
    }


def main() -> int:
    figures = {}
    for place, profile in (("city", PROFILES["city"]), ("200 kbit/s", NARROW)):
        for name, h264 in (("JPEG", False), ("H.264", True)):
            figures[f"{name}, {place}"] = asyncio.run(measure(profile, h264))
            print(
                f"{name}, {place}: " + ", ".join(f"{k} {v}" for k, v in figures[f"{name}, {place}"].items()), flush=True
            )
    out = ROOT / "build" / "bench" / "live.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"seed": SEED, **figures}, indent=2) + "\n", encoding="utf-8")
    missed = [name for name, values in figures.items() if "200" in name and values["age ms median"] > AGE_MS_MAX]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
