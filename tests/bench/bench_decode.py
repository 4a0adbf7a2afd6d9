"""Measure `patrolink decode` of an interleaved capture of 1,124 devices: Rice in encrypted frames.

    python tests/bench/bench_decode.py [fixes, 10000000]    prints the results and writes build/bench/decode.json

Every figure is fixes per CPU second (user and system) of the whole command, with its start; those of wall time
depend on what else the machine does. Slower formats decode a share of the fixes. A peer decodes the same fixes, without
authentication, and writes Parquet with pyarrow as well; pyarrow itself reads them as CSV.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import patrolink_messages as m  # noqa: E402
import protocol_peers  # noqa: E402
import pyarrow  # noqa: E402
import pyarrow.csv  # noqa: E402
import pyarrow.parquet  # noqa: E402
import recipe  # noqa: E402
from patrolink.core import keys  # noqa: E402
from patrolink.core.capture import CaptureWriter, Record  # noqa: E402
from patrolink_protocol import frame  # noqa: E402

from tests.support import codec_extension  # noqa: E402

TRACKS = ROOT / "tests" / "golden" / "tracks"
DEVICES = 1124
BATCH = 60
START_S = 1_760_000_000
START_BYTES = slice(2, 6)  # of the first time, in a body of 60 rows with all columns
# Format → share of the fixes, least fixes per CPU second, most MB.
FORMATS = {"parquet": (1, 0.7e6, 400), "csv": (4, 0.25e6, 400), "npz": (4, 0, 400)}
FORMATS |= {"geojson": (40, 0, 400), "gpx": (40, 0, 400)}
EXTENSION_MIN = 3e6  # fixes per CPU second of Parquet with the C codec
PEER_FIXES = 120_000
STARTER = """
import resource, subprocess, sys, time
start = time.monotonic()
subprocess.run(sys.argv[1:], check=True)
wall = time.monotonic() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print([usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024])
"""


def windows() -> list[list[list[tuple[int, ...]]]]:
    """Return batches of fixes of a walk and of a run."""
    tracks = [recipe.fixes(TRACKS / name) for name in ("walk-1hz.csv", "run-1hz.csv")]
    return [[fixes[i : i + BATCH] for i in range(0, len(fixes) - BATCH, 23)] for fixes in tracks]


def write_capture(path: Path, fixes: int, bodies: list[list[bytes]]) -> int:
    """Write frames of all devices in the order of their times; return the number of fixes."""
    names = [f"vest-{i:04d}" for i in range(DEVICES)]
    secrets = {name: bytes([i & 255, i >> 8]) * 16 for i, name in enumerate(names)}
    channels = [frame.Channel(secrets[name], name.encode()) for name in names]
    buf = bytearray(m.MAX_FRAME)
    writer = CaptureWriter(path)
    frames = fixes // BATCH
    for number in range(frames):
        round_number, i = divmod(number, DEVICES)
        pool = bodies[i % len(bodies)]
        body = bytearray(pool[(round_number * 7 + i) % len(pool)])
        body[START_BYTES] = struct.pack(">I", START_S + round_number * BATCH + i % BATCH)
        time_ms = (START_S + (round_number + 1) * BATCH) * 1000 + i
        end = frame.HEADER_BYTES + len(body)
        buf[frame.HEADER_BYTES : end] = body
        size = channels[i].seal_into(buf, m.POSITION_BATCH, round_number, end)
        writer.write(Record(time_ms, names[i], bytes(buf[:size])))
    writer.close()
    keys.write(keys.sidecar(path), secrets)
    return frames * BATCH


def decode(capture: Path, output_format: str, output: Path, module: Path | None) -> tuple[float, float, float]:
    """Run `patrolink decode`; return its CPU seconds, its seconds, and its largest memory in MB."""
    environment = {**os.environ, "PYTHONPATH": str(module.parent)} if module else dict(os.environ)
    command = [sys.executable, "-m", "patrolink", "decode", str(capture), "--quiet", "--format", output_format]
    # A process of its own: the kernel counts the memory of the one that starts a command as the command's.
    starter = [sys.executable, "-c", STARTER, *command, "--output", str(output)]
    done = subprocess.run(starter, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, wall_s, mb = json.loads(done.stdout)
    return seconds, wall_s, mb


def cpu_s(work: Callable[[], Any], rounds: int = 3) -> float:
    """Return the shortest CPU time of one call in seconds."""
    shortest = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        shortest = min(shortest, time.process_time() - start)
    return shortest


def peer_rates(batches: list[list[tuple[int, ...]]], folder: Path) -> dict[str, int]:
    """Return fixes per CPU second of the peers."""
    rates = {}
    names = ["time", "lat", "lon", "alt", "speed", "course", "hacc", "sats", "battery"]

    def write(rows: list[tuple], path: Path) -> None:
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")

    batches = [batches[i % len(batches)] for i in range(PEER_FIXES // BATCH)]
    for peer in protocol_peers.PEERS:
        if peer.name.startswith(("MAVLink", "protobuf")):
            data = [peer.encode(batch) for batch in batches]
            seconds = cpu_s(lambda p=peer, d=data: write([f for x in d for f in p.decode(x)], folder / "peer.parquet"))
            rates[peer.name] = round(PEER_FIXES / seconds)
    return rates


def main(fixes: int) -> int:
    """Measure all formats."""
    rows: list[dict[str, Any]] = []

    def add(name: str, value: float, unit: str, bar: str, fulfilled: bool, peers: dict[str, int]) -> None:
        print(f"{name}: {value:,} {unit}  {bar}{'' if fulfilled else '  NOT FULFILLED'}")
        for peer, rate in peers.items() or {"": 0}.items():
            ratio = round(value / rate, 1) if rate else None
            rows.append({"name": name, "value": value, "unit": unit, "bar": bar or None, "peer": peer or None})
            rows[-1] |= {"peer_value": rate or None, "ratio": ratio}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batches = windows()
        bodies = [[recipe.body(batch) for batch in of_track] for of_track in batches]
        module = codec_extension.build(folder)
        peers = peer_rates(batches[0], folder)
        add("fixes of parquet", fixes // BATCH * BATCH, "", "", True, {})
        for output_format, (share, rate_min, mb_max) in FORMATS.items():
            capture = folder / f"{share}.plcap"
            count = fixes // share // BATCH * BATCH
            if not capture.exists():
                write_capture(capture, count, bodies)
            for extension in (None, module) if output_format in ("parquet", "csv", "npz") else (None,):
                seconds, wall_s, mb = decode(capture, output_format, folder / output_format, extension)
                rate = round(count / seconds)
                least = EXTENSION_MIN if extension and output_format == "parquet" else rate_min
                title = f"{output_format}{', C codec' if extension else ''}"
                compared = peers if output_format == "parquet" else {}
                add(title, rate, "fixes/s", f">= {least:.0f}" if least else "", rate >= least, compared)
                add(f"{title}, wall time", round(count / wall_s), "fixes/s", "", True, {})
                add(f"{title}, memory", round(mb), "MB", f"<= {mb_max}", mb <= mb_max, {})
            if output_format == "csv":
                table = folder / "table.parquet"
                seconds = cpu_s(
                    lambda path=folder / "csv", table=table: pyarrow.parquet.write_table(
                        pyarrow.csv.read_csv(path), table, compression="zstd"
                    ),
                    1,
                )
                add("pyarrow, CSV to Parquet", round(count / seconds), "fixes/s", "", True, {})
    path = ROOT / "build" / "bench" / "decode.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000))
