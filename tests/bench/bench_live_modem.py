"""Live view of firmware whose network is in an AT modem: what comes of it, and what it costs the session beside it.

python tests/bench/bench_live_modem.py      writes build/bench/live_modem.json

The Cortex-M3 with its camera of 160x120 at 2 pictures a second, the `city`, both dialects, a view of 30 s. The modem's
line carries 115,200 baud up, too, which the emulated modem by itself does not hold the device to. Before the view and
beside it a command is sent that costs the device nothing: the time until its answer is the session's. Bar: a picture a
second.
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

from patrolink.core import resources  # noqa: E402
from patrolink.emulator.network.carrier import PROFILES  # noqa: E402
from patrolink.emulator.scenarios import incident  # noqa: E402
from patrolink.hub.dispatch import client  # noqa: E402

from tests.integration.clips.test_remote import answer, told  # noqa: E402
from tests.integration.live.test_live_modem import Viewer  # noqa: E402

SEED, SECONDS, BAR, NO_CLIP = 20261127, 30, 1.0, 60_000
BYTE_MS = 10 * 1000 / 115_200


def slow(modem) -> None:
    """Have the line up take its time."""
    feed, scheduler, free = modem.feed, modem._scheduler, 0.0

    def later(data: bytes) -> None:
        nonlocal free
        free = max(free, scheduler.now) + len(data) * BYTE_MS
        scheduler.at(free, lambda: feed(data))

    modem.feed = later


async def asked(hub, name: str) -> float:
    """Return the seconds until a command is answered: to keep a clip that there is not."""
    began = time.monotonic()
    command = await hub.request("command", device=name, action="preserve_clip", number=NO_CLIP)
    await told(hub, answer(command), "no answer")
    return time.monotonic() - began


async def viewed(it) -> dict:
    came: list[tuple[float, int]] = []

    def on_frame(view: int, data: bytes) -> None:
        came.append((time.monotonic(), len(data)))

    async with client.connect(it.station.url, on_frame) as hub:
        idle = sorted([await asked(hub, it.name) for _ in range(5)])
        viewer = Viewer(it, hub, [])
        await viewer.start(SECONDS)
        began = time.monotonic()
        beside = []
        while time.monotonic() - began < SECONDS - 5:
            await asyncio.sleep(2)
            beside.append(await asked(hub, it.name))
        await viewer.end_reason()
    seconds = came[-1][0] - came[0][0]
    return {
        "first picture s after the answer": round(came[0][0] - began, 2),
        "pictures": len(came),
        "pictures a second": round((len(came) - 1) / seconds, 2),
        "bytes a picture": int(statistics.mean(n for _, n in came)),
        "kbit/s": round(sum(n for _, n in came) * 8 / seconds / 1000),
        "longest gap s": round(max(b[0] - a[0] for a, b in zip(came, came[1:], strict=False)), 2),
        "a command's answer s, without a view": round(statistics.median(idle), 2),
        "a command's answer s, beside it": round(statistics.median(beside), 2),
    }


def run(dialect: str) -> dict:
    with contextlib.ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-live-")))
        plan = incident.Plan("mps2_an385", resources.demo_video(), 2, 2, PROFILES["city"], SEED, out, dialect)
        it = incident.Incident(plan, stack)
        with it.modem.locked():
            slow(it.modem.modem)
        it.await_recording()
        os.environ[client.TOKEN_VARIABLE] = it.station.token
        it.station.until(lambda: "link: session" in it.device.console_text(), [it.device], 60, "no session")
        time.sleep(5)
        try:
            row = asyncio.run(viewed(it))
        finally:
            print(it.device.console_text(), file=sys.stderr)
        told = it.device.power_off()
        return {**row, "heap at the high-water mark": told["board"]["heap_peak"], "heap at the end": told["heap_used"]}


def main() -> int:
    rows = {dialect: run(dialect) for dialect in ("quectel", "simcom")}
    path = ROOT / "build" / "bench" / "live_modem.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seed": SEED, **rows}, indent=2) + "\n")
    for dialect, row in rows.items():
        print(f"{dialect}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return 0 if all(row["pictures a second"] >= BAR for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
