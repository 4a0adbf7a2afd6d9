"""Measure the method `serial` of `patrolink flash` on emulated boards, beside mpremote.

Writes build/bench/flash.json. The image is the ROMFS of the agent; bytes on the wire are counted between board and tool
in both directions. "16 boards" run at the same time; mpremote writes one board after the other, of which PEER_BOARDS
are measured and the rest is extrapolated.

Times are those of the command, from its start to its end, on boards that are switched on; it identifies, writes, reads
back and restarts them. "_cpu" is the CPU time that the command, its lines and its boards take meanwhile, with the start
of the boards: a machine with that many cores to itself needs at least this time divided by their number. Exit code 1
if a limit is exceeded.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_rows

ROOT = Path(__file__).resolve().parent.parent.parent
for subfolder in ("", "device", "protocol"):
    sys.path.insert(0, str(ROOT / subfolder))

from patrolink.core import boards  # noqa: E402
from patrolink.flash.image import build, romfs  # noqa: E402

from tests.support.counted_line import CountedLine  # noqa: E402
from tests.support.flash_images import write_signed_image  # noqa: E402
from tests.support.repl_boards import ReplBoard  # noqa: E402

BOARDS, PEER_BOARDS = 16, 3
BAUD = 115_200
HIGHEST = {
    "wire_ratio_romfs": 0.72,
    "reflash_unchanged_ratio": 0.05,
    "reflash_one_module_ratio": 0.1,
    "flash_16_boards_cpu": 20,
}
LOWEST = {"wire_ratio_vs_mpremote": 3.3, "speedup_16_vs_mpremote": 6, f"speedup_16_vs_mpremote_{BAUD}": 40}
MODULE = "agent/wearer/sos.py"


def images(folder: Path) -> tuple[bytes, Path, Path]:
    """Return the ROMFS of the agent, its image, and the image after a change in one module."""
    board = boards.find("mps2_an385")
    first = build.build_agent(board, build.BuildInfo("1.0", 1, 1))
    source = folder / "sources" / MODULE
    source.parent.mkdir(parents=True)
    text = (ROOT / "device" / MODULE).read_text(encoding="utf-8")
    source.write_text(f"{text}\n\ndef version():\n    return 'changed'\n", encoding="utf-8")
    module = build.compile_module(source, folder / "sources", first.header.architecture)
    files = {**romfs.read(first.payload), str(Path(MODULE).with_suffix(".mpy")): module}
    return (
        first.payload,
        write_signed_image(folder / "agent.plimg", first.payload),
        write_signed_image(folder / "changed.plimg", romfs.write(files), version="1.1"),
    )


def flash(image: Path, lines: list[CountedLine]) -> float:
    """Flash boards at the same time and return the seconds; raises if one fails."""
    start_s = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "patrolink",
        "flash",
        str(image),
        *(line.path for line in lines),
        "--unverified",
        "--json",
        "-q",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start_s
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["devices"] == len(lines)
    return seconds


def cpu_s() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def mpremote(content: Path, line: CountedLine) -> float:
    """Copy a file by mpremote and return the seconds."""
    start_s = time.perf_counter()
    command = [sys.executable, "-m", "mpremote", "connect", line.path, "fs", "cp", str(content), ":/agent.romfs"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start_s


class Bench:
    """Boards with an empty file system, each behind a counted line."""

    def __init__(self, folder: Path, count: int, baud: int | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self.lines = []
        for i in range(count):
            board = ReplBoard(folder / f"board-{i}", f"bench-{i}")
            self._stack.callback(board.close)
            self.lines.append(CountedLine(board.path, baud))
            self._stack.callback(self.lines[-1].close)

    def bytes_of(self, action, *arguments) -> int:
        """Return the bytes on the wire of the first board during an action."""
        before = self.lines[0].bytes
        action(*arguments)
        return self.lines[0].bytes - before

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def wire_rows(folder: Path, content: bytes, image: Path, changed: Path, peer_file: Path) -> list[dict]:
    """Return bytes on the wire: first flash, unchanged, one module changed, and mpremote."""
    with Bench(folder / "wire", 1) as bench:
        first = bench.bytes_of(flash, image, bench.lines)
        unchanged = bench.bytes_of(flash, image, bench.lines)
        module = bench.bytes_of(flash, changed, bench.lines)
    with Bench(folder / "wire-peer", 1) as bench:
        peer = bench.bytes_of(mpremote, peer_file, bench.lines[0])
    return [
        bench_rows.row("romfs_bytes", len(content), "B"),
        bench_rows.row("wire_bytes", first, "B"),
        bench_rows.row("wire_bytes_mpremote", peer, "B"),
        bench_rows.row("wire_ratio_romfs", round(first / len(content), 3), ""),
        bench_rows.row("wire_ratio_vs_mpremote", round(peer / first, 2), "x"),
        bench_rows.row("reflash_unchanged_ratio", round(unchanged / first, 3), ""),
        bench_rows.row("reflash_one_module_ratio", round(module / first, 3), ""),
    ]


def speed_rows(folder: Path, image: Path, peer_file: Path, baud: int | None) -> list[dict]:
    """Return the time of 16 boards at once, and of mpremote one after the other."""
    suffix = f"_{baud}" if baud else ""
    before_s = cpu_s()
    with Bench(folder / f"fleet{suffix}", BOARDS, baud) as bench:
        fleet_s = flash(image, bench.lines)
    fleet_cpu_s, before_s = cpu_s() - before_s, cpu_s()
    with Bench(folder / f"peer{suffix}", PEER_BOARDS, baud) as bench:
        peer_s = sum(mpremote(peer_file, line) for line in bench.lines) / PEER_BOARDS
    peer_cpu_s = (cpu_s() - before_s) / PEER_BOARDS
    return [
        bench_rows.row(f"flash_16_boards{suffix}", round(fleet_s, 1), "s"),
        bench_rows.row(f"flash_16_boards_cpu{suffix}", round(fleet_cpu_s, 1), "s"),
        bench_rows.row(f"mpremote_1_board{suffix}", round(peer_s, 1), "s"),
        bench_rows.row(f"mpremote_1_board_cpu{suffix}", round(peer_cpu_s, 1), "s"),
        bench_rows.row(f"speedup_16_vs_mpremote{suffix}", round(BOARDS * peer_s / fleet_s, 1), "x"),
    ]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as name:
        folder = Path(name)
        content, image, changed = images(folder)
        peer_file = folder / "agent.romfs"
        peer_file.write_bytes(content)
        rows = wire_rows(folder, content, image, changed, peer_file)
        for baud in (None, BAUD):
            rows += speed_rows(folder, image, peer_file, baud)
    bench_rows.write("flash", rows)
    values = {row["name"]: row["value"] for row in rows}
    missed = [f"{name}: {values[name]} is above {limit}" for name, limit in HIGHEST.items() if values[name] > limit]
    missed += [f"{name}: {values[name]} is below {limit}" for name, limit in LOWEST.items() if values[name] < limit]
    for line in missed:
        print(line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
