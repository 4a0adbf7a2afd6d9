"""Measure size and speed of the protocol. Peers encode the same fixes in the same process.

python tests/bench/bench_protocol.py     prints the results and writes build/bench/protocol.json
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import patrolink_messages as m
import protocol_peers
import recipe
from patrolink.core import batch_columns, batch_decoder, resources
from patrolink.core.batch_opener import BatchOpener
from patrolink.core.capture import Record
from patrolink.core.keys import DeviceKey
from patrolink_protocol import frame, track_decoder

ROOT = Path(__file__).resolve().parent.parent.parent
TRACKS = ROOT / "tests" / "golden" / "tracks"
OVERHEAD = frame.HEADER_BYTES + m.TAG_BYTES
KEY = bytes(range(32))
FRAMES = 16384
DERIVED = ("speed", "course")


class Table:
    """Results. Each one is printed when it is added."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def add(self, name: str, value: float, unit: str, bar: str = "", peer: str = "", peer_value: float = 0) -> None:
        """Add a figure, its limit `bar`, and the same figure of a peer."""
        ratio = round(value / peer_value, 2) if peer_value else None
        self.rows.append(
            {"name": name, "value": value, "unit": unit, "bar": bar or None, "peer": peer or None,
             "peer_value": peer_value or None, "ratio": ratio}
        )  # fmt: skip
        comparison = f"   {ratio} x {peer} ({peer_value:g})" if peer else ""
        print(f"{name}: {value:g} {unit}{'   bar ' + bar if bar else ''}{comparison}")


def windows(fixes: list, n: int = 60) -> list[list]:
    return [fixes[i : i + n] for i in range(0, len(fixes) - n + 1, n)]


def sizes(table: Table, tracks: dict[str, list]) -> None:
    for name in ("walk-1hz", "run-1hz"):
        fixes = tracks[name]
        single = [len(recipe.body([fix])) + OVERHEAD for fix in fixes]
        table.add(f"{name}, one fix, nine fields, largest", max(single), "bytes", "<= 32")
        batches = windows(fixes)
        for content, bar, options in (
            ("nine fields", "<= 190", {}),
            ("speed and course derived", "<= 132", {"omit": DERIVED}),
            ("nine fields, baseline codings", "", {"rice": False}),
        ):
            batch_sizes = [len(recipe.body(w, **options)) + OVERHEAD for w in batches]
            table.add(
                f"{name}, 60 fixes, {content}, mean of {len(batch_sizes)} windows",
                round(statistics.mean(batch_sizes), 1),
                "bytes",
                bar,
            )
            table.add(f"{name}, 60 fixes, {content}, largest", max(batch_sizes), "bytes")
    for name, fixes in tracks.items():
        for content, options in (("nine fields", {}), ("derived", {"omit": DERIVED}), ("baseline", {"rice": False})):
            total = sum(len(recipe.body(fixes[i : i + 60], **options)) + OVERHEAD for i in range(0, len(fixes), 60))
            table.add(f"{name}, {len(fixes)} fixes, {content}", round(total / len(fixes), 2), "bytes/fix")
    walk = tracks["walk-1hz"]
    one_bytes = statistics.mean(len(recipe.body([f])) + OVERHEAD for f in walk[:600])
    batch_bytes = statistics.mean(len(recipe.body(w)) + OVERHEAD for w in windows(walk))
    for peer in protocol_peers.PEERS:
        peer_one_bytes = statistics.mean(len(peer.encode([f])) for f in walk[:600])
        peer_batch_bytes = statistics.mean(len(peer.encode(w)) for w in windows(walk))
        label = f"{peer.name} ({peer.guard})"
        table.add("walk-1hz, one fix", round(one_bytes, 1), "bytes", "", label, round(peer_one_bytes, 1))
        table.add("walk-1hz, 60 fixes", round(batch_bytes, 1), "bytes", "", label, round(peer_batch_bytes, 1))


def best(work, rounds: int = 5) -> float:
    """Return the shortest CPU time of one call in seconds: other programs on the machine hardly affect it."""
    shortest = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        shortest = min(shortest, time.process_time() - start)
    return shortest


def sealed_frames(bodies: list[bytes]) -> list[bytes]:
    channel = frame.Channel(KEY, b"bench")
    buf = bytearray(m.MAX_FRAME)
    out = []
    for i in range(FRAMES):
        body = bodies[i % len(bodies)]
        end = frame.HEADER_BYTES + len(body)
        buf[frame.HEADER_BYTES : end] = body
        out.append(bytes(buf[: channel.seal_into(buf, m.POSITION_BATCH, i, end)]))
    return out


def speeds(table: Table, tracks: dict[str, list]) -> None:
    batches = windows(tracks["walk-1hz"])
    fixes = [fix for window in batches for fix in window]
    peers = {}
    for peer in protocol_peers.PEERS:
        data = [peer.encode(w) for w in batches]
        peers[peer.name] = round(len(fixes) / best(lambda p=peer, d=data: [p.decode(x) for x in d], 3))
    for rice, bar in ((False, ">= 500000"), (True, "")):
        bodies = [recipe.body(w, rice) for w in batches]
        rate = round(len(fixes) / best(lambda b=bodies: [track_decoder.decode_columns(x) for x in b]))
        table.add(f"plain decoder, {'Rice' if rice else 'fixed-width'}", rate, "fixes/s", bar)
    for rice in (True, False):
        frames = sealed_frames([recipe.body(w, rice) for w in batches])

        def run(frames: list[bytes] = frames) -> None:
            opened = BatchOpener({"bench": DeviceKey(KEY)}).open([Record(0, "bench", data) for data in frames])
            parts = batch_decoder.blocks(opened.bodies, batch_columns.NumpyDecoder())
            assert sum(len(part.columns["lat"]) for part in parts) == FRAMES * 60

        run()
        rate = round(FRAMES * 60 / best(run))
        name = f"batch decoder, {'Rice' if rice else 'fixed-width'}, one tag check per frame"
        table.add(name, rate, "fixes/s", "" if rice else ">= 10000000")
        for peer_name, value in peers.items():
            table.add(name, rate, "fixes/s", "", peer_name, value)


def device(table: Table, tracks: dict[str, list]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        rows.write_text(json.dumps([recipe.row(f) for f in tracks["walk-1hz"][:60]]))
        driver = Path(__file__).with_name("protocol_driver.py")
        command = [
            *resources.interpreter("micropython"),
            "-X",
            "heapsize=512K",
            str(driver),
            str(ROOT / "protocol"),
            str(rows),
        ]
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for kind, figures in result["encode"].items():
        table.add(f"device encode on micropython, {kind}", round(figures["ns"] / 1000, 2), "us/fix", "<= 25")
        table.add(f"device encode on micropython, {kind}, allocated", figures["allocated"], "bytes", "0")
    table.add("import on micropython: frames and position batches", result["positions"], "bytes of heap", "<= 12288")
    table.add("import on micropython: with all scalar messages", result["every"], "bytes of heap")


def main() -> int:
    tracks = {p.stem: recipe.fixes(p) for p in sorted(TRACKS.iterdir())}
    protocol_peers.check(tracks["walk-1hz"][:60])
    table = Table()
    sizes(table, tracks)
    speeds(table, tracks)
    device(table, tracks)
    out = ROOT / "build" / "bench" / "protocol.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(table.rows, indent=2) + "\n", encoding="utf-8")
    print(f"written to {out.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
