"""Measure relay and ingest of a hub beside the hub of another revision (`--against REV`), in turns, in one run.

Writes build/bench/relay.json. Both hubs run at the same time with the same interpreter and libraries, and get the same
load: 200 groups that talk to 1124 listeners, and frames of 60 fixes of all listeners at once. The checkout of REV is a
git worktree in build/. CPU times do not depend on what else the machine does, relay times do.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bench_rows
import hub_load
import priority
from patrolink.core.track_packer import Fix, TrackPacker
from patrolink_protocol import frame, track_encoder

from tests.support import site_file

BASELINE = "cc7d53a"  # the last revision whose hub is one process
SECONDS, FIXES_PER_FRAME = 3.0, 60
_QUIET_S, _QUIET_CPU_S = 0.5, 0.02  # a hub that uses no more in this time has processed what it got
_FIX = {
    "lon_deg": 13.7, "alt_m": 4.0, "speed_mps": 1.4, "course_deg": 90.0, "hacc_m": 4.0, "sats": 11, "battery_pct": 93,
}  # fmt: skip
UNITS = {"relay p50": "ms", "relay p95": "ms", "CPU of the relay per packet sent": "us", "CPU per frame": "ms"}


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Yield a git worktree of a revision in build/."""
    path = hub_load.ROOT / "build" / f"against-{revision}"
    subprocess.run(["git", "-C", hub_load.ROOT, "worktree", "add", "--force", "--detach", path, revision], check=True)
    try:
        yield path
    finally:
        subprocess.run(["git", "-C", hub_load.ROOT, "worktree", "remove", "--force", path], check=True)


def frames(rounds: int) -> list[list[tuple[str, bytes]]]:
    """Return topic and frame of each listener, for each round."""
    now_ms, by_device = int(time.time() * 1000), []
    for listener in range(hub_load.LISTENERS):
        name, count = f"l-{listener}", FIXES_PER_FRAME * rounds
        channel = frame.Channel(site_file.keys_of([name])[name], name.encode())
        packer = TrackPacker(channel, track_encoder.TrackEncoder(FIXES_PER_FRAME), 1)
        fixes = [Fix(now_ms - (count - k) * 1000, 3, {**_FIX, "lat_deg": 45.5 + k / 1e4}) for k in range(count)]
        packed = itertools.islice(packer.frames(fixes), rounds)
        by_device.append([(f"p/{name}/u", data) for _, data in packed])
    return [list(column) for column in zip(*by_device, strict=True)]


def ingest_ms(load: hub_load.Load, messages: list[tuple[str, bytes]]) -> float:
    """Return the CPU milliseconds that all processes of a hub use for one frame."""
    before_s = used_s = sum(load.cpu_s().values())
    for topic, data in messages:
        load.client.publish(topic, data, qos=1)
    while True:
        time.sleep(_QUIET_S)
        last_s, used_s = used_s, sum(load.cpu_s().values())
        if used_s > before_s and used_s - last_s <= _QUIET_CPU_S:
            return (used_s - before_s) / len(messages) * 1000


def measure(load: hub_load.Load, messages: list[tuple[str, bytes]]) -> dict[str, float]:
    """Return the figures of one round; the names are those of UNITS."""
    frame_ms = ingest_ms(load, messages)
    load.take_floors()
    load.wait(0.5)
    result = load.measure(SECONDS)
    print(json.dumps(result), file=sys.stderr, flush=True)
    # The floor, the keepalives and the terms use little; a hub of one process has no voice.
    share = result["cpu_pct"].get("voice", result["cpu_pct"]["hub"]) / 100
    elapsed_s = SECONDS + 0.5
    packets = result["wanted"] - result["lost"]
    values = (result["p50_ms"], result["p95_ms"], share * elapsed_s / max(packets, 1) * 1e6, frame_ms)
    return dict(zip(UNITS, values, strict=True))


def main(rounds: int, against: str) -> None:
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(priority.raised()):
            print("note: no permission to raise the priority; other programs disturb the figures", file=sys.stderr)
        loads = {"": hub_load.Load(stack)}
        if against:
            loads[against] = hub_load.Load(stack, source=stack.enter_context(checkout(against)))
        results: dict[str, list[dict[str, float]]] = {name: [] for name in loads}
        for i, messages in enumerate(frames(rounds)):
            for name in itertools.islice(itertools.cycle(loads), i, i + len(loads)):
                results[name].append(measure(loads[name], messages))
        for load in loads.values():
            load.hub.stop()
    rows = []
    for figure, unit in UNITS.items():
        medians = {name: statistics.median(entry[figure] for entry in entries) for name, entries in results.items()}
        row = bench_rows.row(figure, round(medians[""], 2), unit)
        if against:
            peer = round(medians[against], 2)
            row |= {"peer": against, "peer_value": peer, "ratio": round(medians[""] / medians[against], 2)}
            print(f"{figure}: {peer} {unit} at {against}, ratio {row['ratio']}")
        rows.append(row)
    bench_rows.write("relay", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", default=BASELINE, help="revision that is measured beside this one; '': none")
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.against)
