"""Measure the relay of a hub beside hostile HTTP and beside a backlog of frames, with 200 groups that talk at once.

Writes build/bench/hub_isolation.json. Each load is measured between two times without load, in the same run. Limits:
95th percentile of the relay time beside HTTP at most 1.5 times that without load; at most 20 ms beside 5,000 frames.
"""

import argparse
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

import hub_hostile  # noqa: E402
import hub_load  # noqa: E402
import priority  # noqa: E402
import psutil  # noqa: E402
from patrolink.core.track_packer import Fix, TrackPacker  # noqa: E402
from patrolink.emulator.scenarios import control_room  # noqa: E402
from patrolink.hub import config  # noqa: E402
from patrolink_protocol import frame, track_encoder  # noqa: E402

from tests.support import site_file  # noqa: E402

SECONDS = 1.5  # of one window
_SETTLE_S = 0.5
_HOSTILE_STEPS = 10  # below the hub, above other programs on the machine
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
    for i in range(hub_load.LISTENERS):
        name = f"l-{i}"
        channel = frame.Channel(site_file.keys_of([name])[name], name.encode())
        packer = TrackPacker(channel, track_encoder.TrackEncoder(FIXES_PER_FRAME), 1)
        count = FIXES_PER_FRAME * (FRAMES // hub_load.LISTENERS + 1)
        fixes = [Fix(now_ms - (count - k) * 1000, 3, {**_FIX, "lat_deg": 45.5 + k / 1e4}) for k in range(count)]
        lines += [f"p/{name}/u {data.hex()}" for _, data in packer.frames(fixes)]
    path.write_text("\n".join(lines[:FRAMES]) + "\n")


def measure(load: hub_load.Load, command: list[str]) -> dict:
    """Return the relay figures while a load runs; without a command, without load."""
    if not command:
        load.wait(_SETTLE_S)
        return load.measure(SECONDS)
    # A session of its own, below the hub: the CPU of an attacker is not the hub's.
    hostile = subprocess.Popen(
        [sys.executable, hub_hostile.__file__, *command], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    priority.raise_sessions([psutil.Process(hostile.pid)], _HOSTILE_STEPS)
    assert hostile.stdout is not None
    try:
        while not select.select([hostile.stdout], [], [], 0)[0]:
            load.wait(0.1)
        load.wait(_SETTLE_S)
        return load.measure(SECONDS)
    finally:
        hostile.terminate()
        hostile.communicate()


def report(kinds: list[str], results: dict[str, list[dict]]) -> None:
    """Write the rows: medians of the windows."""

    def median(kind: str, name: str) -> float:
        return float(np.median([result[name] for result in results[kind]]))

    rows = []
    for kind in ["", *kinds]:
        title = f"beside {kind}" if kind else "without load"
        rows.append(bench_rows.row(f"relay p95 {title}", round(median(kind, "p95_ms"), 2), "ms"))
        if kind:
            ratio = median(kind, "p95_ms") / median("", "p95_ms")
            rows.append(bench_rows.row(f"relay p95 {title}, to idle", round(ratio, 2), "x"))
        rows.append(bench_rows.row(f"relay p99 {title}", round(median(kind, "p99_ms"), 2), "ms"))
        rows.append(bench_rows.row(f"packets lost {title}", sum(result["lost"] for result in results[kind]), "packets"))
        for process in ("voice", "service", "generator"):
            share = float(np.median([result["cpu_pct"].get(process, 0) for result in results[kind]]))
            rows.append(bench_rows.row(f"CPU of {process} {title}", share, "%"))
    bench_rows.write("hub_isolation", rows)


def main(rounds: int, chosen: list[str]) -> None:
    (port,) = control_room.free_ports(1, socket.SOCK_STREAM)
    console = f"127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(priority.raised()):
            print("note: no permission to raise the priority; other programs disturb the figures", file=sys.stderr)
        frames = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-backlog-"))) / "frames"
        write_backlog(frames)
        load = hub_load.Load(stack, f'console = "{console}"', DISPATCHER)
        commands = {kind: [kind, "60", console, TOKEN] for kind in hub_hostile.KINDS}
        commands[BACKLOG] = [BACKLOG, "0", f"127.0.0.1:{load.broker.port}", str(frames)]
        kinds = [kind for kind in commands if not chosen or kind in chosen]
        results: dict[str, list[dict]] = {kind: [] for kind in ("", *kinds)}
        for _ in range(rounds):  # in turns: what else the machine does changes within minutes
            for kind in kinds:
                for name in ("", kind):
                    results[name].append(measure(load, commands.get(name, [])))
                    print(json.dumps({"load": name, **results[name][-1]}), file=sys.stderr, flush=True)
        counts = load.hub.stop()
        print(json.dumps(counts), file=sys.stderr)
    report(kinds, results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="windows of each load")
    parser.add_argument("--load", action="append", default=[], help="only this load, for example '200 consoles'")
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.load)
