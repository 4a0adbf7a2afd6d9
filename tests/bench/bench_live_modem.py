"""Measure a live view of firmware behind an AT modem: its pictures, and the delay that it adds to the MQTT session.

python tests/bench/bench_live_modem.py      writes build/bench/live_modem.json

Setup: the Cortex-M3 with a camera of 160x120 at 2 fps, the `city` radio, both dialects, a view of 30 s. The bench
limits the uplink of the modem's UART to 115,200 baud, which the emulated modem does not. Before and during the view it
sends commands that need no work on the device; the time until the answer is the delay of the session. Limit: one
picture per second.
"""

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from patrolink.emulator.network.carrier import PROFILES  # noqa: E402
from patrolink.emulator.peripherals.film import default_film  # noqa: E402
from patrolink.emulator.scenarios import incident  # noqa: E402
from patrolink.hub.dispatch import client  # noqa: E402

from tests.integration.clips.test_remote import answer, next_matching  # noqa: E402
from tests.integration.live.test_live_modem import Viewer  # noqa: E402

SEED, SECONDS, FPS_MIN, NO_CLIP = 20261127, 30, 1.0, 60_000
BYTE_MS = 10 * 1000 / 115_200


def limit_uplink(modem) -> None:
    """Delay the bytes that the device sends to the rate of a UART of 115,200 baud."""
    feed, scheduler, idle_ms = modem.feed, modem._scheduler, 0.0

    def delayed_feed(data: bytes) -> None:
        nonlocal idle_ms
        idle_ms = max(idle_ms, scheduler.now) + len(data) * BYTE_MS
        scheduler.at(idle_ms, lambda: feed(data))

    modem.feed = delayed_feed


async def answer_delay(hub, name: str) -> float:
    """Send a command to preserve a clip that does not exist; return the seconds until the answer."""
    begin = time.monotonic()
    command = await hub.request("command", device=name, action="preserve_clip", number=NO_CLIP)
    await next_matching(hub, answer(command), "no answer")
    return time.monotonic() - begin


async def measure(scenario) -> dict:
    """Run a live view and return its figures."""
    frames: list[tuple[float, int]] = []

    def on_frame(view: int, data: bytes) -> None:
        frames.append((time.monotonic(), len(data)))

    async with client.connect(scenario.station.url, on_frame) as hub:
        idle_delays = sorted([await answer_delay(hub, scenario.name) for _ in range(5)])
        viewer = Viewer(scenario, hub, [])
        await viewer.start(SECONDS)
        begin = time.monotonic()
        delays = []
        while time.monotonic() - begin < SECONDS - 5:
            await asyncio.sleep(2)
            delays.append(await answer_delay(hub, scenario.name))
        await viewer.end_reason()
    seconds = frames[-1][0] - frames[0][0]
    return {
        "first picture s after the answer": round(frames[0][0] - begin, 2),
        "pictures": len(frames),
        "pictures a second": round((len(frames) - 1) / seconds, 2),
        "bytes a picture": int(statistics.mean(n for _, n in frames)),
        "kbit/s": round(sum(n for _, n in frames) * 8 / seconds / 1000),
        "longest gap s": round(max(b[0] - a[0] for a, b in zip(frames, frames[1:], strict=False)), 2),
        "a command's answer s, without a view": round(statistics.median(idle_delays), 2),
        "a command's answer s, beside it": round(statistics.median(delays), 2),
    }


def run(dialect: str) -> dict:
    with contextlib.ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-live-")))
        plan = incident.Plan("mps2_an385", default_film(), 2, 2, PROFILES["city"], SEED, out, dialect)
        scenario = incident.Incident(plan, stack)
        with scenario.modem.locked():
            limit_uplink(scenario.modem.modem)
        scenario.await_recording()
        os.environ[client.TOKEN_VARIABLE] = scenario.station.token
        scenario.station.until(
            lambda: "link: session" in scenario.device.console_text(), [scenario.device], 60, "no session"
        )
        time.sleep(5)
        try:
            row = asyncio.run(measure(scenario))
        finally:
            print(scenario.device.console_text(), file=sys.stderr)
        summary = scenario.device.power_off()
        return {
            **row,
            "heap at the high-water mark": summary["board"]["heap_peak"],
            "heap at the end": summary["heap_used"],
        }


def main() -> int:
    rows = {dialect: run(dialect) for dialect in ("quectel", "simcom")}
    path = ROOT / "build" / "bench" / "live_modem.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seed": SEED, **rows}, indent=2) + "\n")
    for dialect, row in rows.items():
        print(f"{dialect}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return 0 if all(row["pictures a second"] >= FPS_MIN for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
