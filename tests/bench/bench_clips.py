"""Measure the recorder of clips; prints, and writes build/bench/clips.json.

python tests/bench/bench_clips.py      run it alone: it measures time

CPython: MB/s that are encrypted, hashed and written to storage in the background. MicroPython: heap of the recorder
with 16 KB pictures, what a picture allocates and costs.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for room in ("tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / room))

from agent.clips.segment import Keys, Segment  # noqa: E402
from compat import crypto  # noqa: E402
from hal.common import Files  # noqa: E402
from patrolink_protocol import clip  # noqa: E402

MB = 64
RECORD = 20_000
HEAP = "512K"


def throughput(folder: Path) -> float:
    """Return MB/s from record to storage, files closed each 8 MB."""
    files = Files(str(folder / "clips"))
    evidence = crypto.public(crypto.private())
    keys, segment, record = Keys(evidence), Segment(), bytes(RECORD)
    start = time.perf_counter()
    for _ in range(MB // 8):
        step, key = keys.take()
        header = clip.Header(clip.H264_MP4, 0, 640, 480, 1, step, 0, keys.recipient, keys.ephemeral)
        segment.begin(files.open(clip.name_of(1, step)), header, key)
        for at in range(8_000_000 // RECORD):
            segment.media(at, record)
        segment.end(0)
    files.flush(60_000)
    took = time.perf_counter() - start
    assert sum(files.size(name) for name in files.names()) > 8_000_000 * (MB // 8)
    return MB / took


def heap(folder: Path) -> dict[str, int] | None:
    """Return what the recorder takes on MicroPython; None without one."""
    beside = Path(sys.executable).parent / "micropython"
    micropython = str(beside) if beside.exists() else shutil.which("micropython")
    if micropython is None:
        print("no micropython beside this Python or on PATH: its heap is not measured", file=sys.stderr)
        return None
    command = [micropython, "-X", "heapsize=" + HEAP, str(ROOT / "tests/bench/clips_driver.py"), str(folder)]
    done = subprocess.run([*command, "16384", "180"], capture_output=True, text=True, check=True, timeout=300)
    result: dict[str, int] = json.loads(done.stdout)
    return result


def main() -> int:
    out: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        out["mb_s"] = round(throughput(Path(folder)), 1)
        print(f"encrypted, hashed and on storage (CPython): {out['mb_s']} MB/s")
    with tempfile.TemporaryDirectory() as folder:
        told = heap(Path(folder))
        if told is not None:
            out["micropython"] = told
            all_kb = (told["objects_most"] + told["picture"]) / 1024
            print(f"heap of a recorder with 16 KB pictures (MicroPython): {all_kb:.1f} KB, its code not counted;")
            print(
                f"  {told['allocated_a_picture']} bytes allocated a picture, {told['us_a_second']} us a second of video"
            )
    path = ROOT / "build/bench/clips.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(out, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
