"""Measure the relay of a hub beside hostile HTTP and beside a backlog of frames, with 200 groups that talk at once.

Writes build/bench/hub_isolation.json. Each load is measured between two times without load, in the same run. Limits:
95th percentile of the relay time beside HTTP at most 1.5 times that without load; at most 20 ms beside 5,000 frames.
"""

import contextlib
import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_rows
import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench_hub  # noqa: E402
import hub_hostile  # noqa: E402
import psutil  # noqa: E402
from patrolink.core.track_packer import Fix, TrackPacker  # noqa: E402
from patrolink.emulator.scenarios import control_room  # noqa: E402
from patrolink.hub import config  # noqa: E402
from patrolink_protocol import frame, track_encoder  # noqa: E402

from tests.support import site_file  # noqa: E402

INTERVAL_MS, SECONDS = 60.0, 4.0
WAIT_PACKETS = 20
FRAMES, FIXES_PER_FRAME = 5000, 60
_FIX = {
    "lon_deg": 13.7, "alt_m": 4.0, "speed_mps": 1.4, "course_deg": 90.0, "hacc_m": 4.0, "sats": 11, "battery_pct": 93,
}  # fmt: skip
BACKLOG = f"backlog of {FRAMES} frames"
TOKEN = config.new_token()
DISPATCHER = f'[[dispatcher]]\nname = "duty"\ntoken_sha256 = "{config.token_hash(TOKEN)}"\n'


def write_backlog(path: Path) -> None:
    """Write frames of the listeners to a file: what they recorded while there was no network."""
    now_ms, lines = int(time.time() * 1000), []
    for i in range(bench_hub.LISTENERS):
        name = f"l-{i}"
        channel = frame.Channel(site_file.keys_of([name])[name], name.encode())
        packer = TrackPacker(channel, track_encoder.TrackEncoder(2), 1)
        count = FIXES_PER_FRAME * (FRAMES // bench_hub.LISTENERS + 1)
        fixes = [Fix(now_ms - (count - k) * 1000, 3, {**_FIX, "lat_deg": 45.5 + k / 1e4}) for k in range(count)]
        lines += [f"p/{name}/u {data.hex()}" for _, data in packer.frames(fixes)]
    path.write_text("\n".join(lines[:FRAMES]) + "\n")


def measure(load: bench_hub.Load, voice: list[list[bytes]], first: int, command: list[str]) -> dict:
    """Return the relay figures while a load runs; without a command, without load.

    Of the packets of each talker, WAIT_PACKETS hold the floor until the load is on.
    """
    measured = first + WAIT_PACKETS
    send_keepalives(load)
    if not command:
        return bench_hub.step(load, voice, measured, INTERVAL_MS, SECONDS)
    hostile = subprocess.Popen([sys.executable, hub_hostile.__file__, *command], stdout=subprocess.PIPE, text=True)
    assert hostile.stdout is not None
    target = "127.0.0.1", load.ports[1]
    for i in range(first, measured):
        for device, packets in zip(load.talkers, voice, strict=True):
            device.media.sendto(packets[i], target)
        if select.select([hostile.stdout], [], [], 1)[0]:
            break
    load.drain()
    try:
        result = bench_hub.step(load, voice, measured, INTERVAL_MS, SECONDS)
    finally:
        hostile.terminate()
        hostile.communicate()
    return result


def send_keepalives(load: bench_hub.Load) -> None:
    """Send a keepalive of each device on both sockets: a device without one for 60 s counts as absent."""
    for device in load.devices:
        device.floor.sendto(device.report(), ("127.0.0.1", load.ports[0]))
        device.media.sendto(device.report(), ("127.0.0.1", load.ports[1]))
        time.sleep(0.0005)
    time.sleep(1)  # they are processed before the measurement


def voice_restart_s(load: bench_hub.Load) -> float:
    """Return the seconds from kill -9 of the voice until it grants the floor to a talker."""
    hub, talker, start = psutil.Process(load.hub.process.pid), load.talkers[0], time.monotonic()
    voice = next(process for process in hub.children() if "voice" in process.cmdline())
    voice.kill()
    voice.wait()
    with contextlib.suppress(BlockingIOError):
        while True:
            talker.floor.recv(2048)
    talker.ssrc = 0
    while not talker.ssrc:
        assert time.monotonic() - start < 30, "the voice was not started again"
        talker.floor.sendto(talker.request(), ("127.0.0.1", load.ports[0]))
        time.sleep(0.02)
        with contextlib.suppress(BlockingIOError, ValueError):
            while True:
                talker.on_floor_packet(talker.floor.recv(2048))
    return time.monotonic() - start


def main() -> None:
    (port,) = control_room.free_ports(1, socket.SOCK_STREAM)
    console = f"127.0.0.1:{port}"
    loads = [[kind, "60", console, TOKEN] for kind in hub_hostile.KINDS]
    with contextlib.ExitStack() as stack:
        frames = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-backlog-"))) / "frames"
        write_backlog(frames)
        load = bench_hub.Load(stack, f'console = "{console}"', DISPATCHER)
        loads.insert(-1, [BACKLOG, "0", f"127.0.0.1:{load.broker.port}", str(frames)])
        steps: list[list[str]] = [[], *(step for command in loads for step in (command, []))]
        count = WAIT_PACKETS + int(SECONDS * 1000 / INTERVAL_MS)
        voice = bench_hub.prepare(load, count * len(steps))
        results = []
        for i, command in enumerate(steps):
            results.append(measure(load, voice, i * count, command))
            print(json.dumps({"load": command[:1], **results[-1]}), file=sys.stderr, flush=True)
        restart_s = voice_restart_s(load)
        load.hub.stop()
    idle_ms = float(np.median([result["p95_ms"] for result in results[::2]]))
    rows = [bench_rows.row("relay p95 without load", round(idle_ms, 2), "ms")]
    for i, command in enumerate(loads):
        before, beside, after = results[2 * i : 2 * i + 3]
        ratio = beside["p95_ms"] / ((before["p95_ms"] + after["p95_ms"]) / 2)
        rows.append(bench_rows.row(f"relay p95 beside {command[0]}", beside["p95_ms"], "ms"))
        rows.append(bench_rows.row(f"relay p95 beside {command[0]}, to idle", round(ratio, 2), "x"))
        rows.append(bench_rows.row(f"packets lost beside {command[0]}", beside["lost"], "packets"))
    rows.append(bench_rows.row("voice usable after kill -9", round(restart_s, 2), "s"))
    bench_rows.write("hub_isolation", rows)


if __name__ == "__main__":
    main()
