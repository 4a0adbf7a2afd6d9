"""Measure the recorder of clips. Prints the figures, and writes build/bench/clips.json.

python tests/bench/bench_clips.py      run it on an idle machine, because it measures time

CPython: MB/s encrypted, hashed and written to storage in the background. MicroPython: heap of the recorder with 16 KB
pictures, bytes allocated and time per picture. Recorder of a Linux board with all real parts, in real time: CPU time
per second of video, lost frames, the longest round of its loop.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
for subfolder in ("", "tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / subfolder))

from agent.recording.segment import SegmentKeys, SegmentWriter  # noqa: E402
from compat import crypto  # noqa: E402
from compat.steps import run_to_completion  # noqa: E402
from hal.clip_storage import ClipStorage  # noqa: E402
from hal.posix.background import WriteQueue  # noqa: E402
from patrolink.emulator.peripherals.headset import Headset  # noqa: E402
from patrolink_protocol import clip  # noqa: E402

MB = 64
RECORD = 20_000
HEAP = "512K"
RECORDED_S, EVENT_S = 60, 20


def throughput(folder: Path) -> float:
    """Return the MB/s that are encrypted, hashed and stored, with files of 8 MB."""
    files = ClipStorage(str(folder / "clips"), WriteQueue())
    evidence = run_to_completion(crypto.derive_public_key(crypto.generate_private_key()))
    keys, segment, record = SegmentKeys(evidence), SegmentWriter(), bytes(RECORD)
    run_to_completion(keys.load())
    start = time.perf_counter()
    for _ in range(MB // 8):
        step, key = keys.take()
        header = clip.SegmentHeader(clip.H264_MP4, 0, 640, 480, 1, step, 0, keys.recipient, keys.ephemeral)
        segment.begin(files.open(clip.segment_name(1, step)), header, key)
        for at in range(8_000_000 // RECORD):
            segment.media(at, record)
        segment.end(0)
    files.flush(60_000)
    duration_s = time.perf_counter() - start
    assert sum(files.size(name) for name in files.names()) > 8_000_000 * (MB // 8)
    return MB / duration_s


def heap(folder: Path) -> dict[str, int] | None:
    """Return the figures of clips_driver.py; None without MicroPython."""
    installed = Path(sys.executable).parent / "micropython"
    micropython = str(installed) if installed.exists() else shutil.which("micropython")
    if micropython is None:
        print("no micropython next to this Python or on PATH: the heap is not measured", file=sys.stderr)
        return None
    command = [micropython, "-X", "heapsize=" + HEAP, str(ROOT / "tests/bench/clips_driver.py"), str(folder)]
    process = subprocess.run([*command, "16384", "180"], capture_output=True, text=True, check=True, timeout=300)
    result: dict[str, int] = json.loads(process.stdout)
    return result


def timed(function: Callable[..., None], durations: list[float]) -> Callable[..., None]:
    """Return a wrapper of the function that appends the duration of each call in ms to `durations`."""

    def call(*arguments: Any) -> None:
        begin = time.perf_counter()
        function(*arguments)
        durations.append(1000 * (time.perf_counter() - begin))

    return call


def recording(folder: Path) -> dict[str, float | int] | None:
    """Record H.264 of 640x480 at 15 fps with a timestamp, and sound after an event.

    Returns:
        The figures; None without OpenCV or the demo video.
    """
    try:
        from tests.support.recording_board import DEMO_VIDEO, Board, RealParts
    except ImportError as e:
        print(f"{e.name} is missing (pip install opencv-python-headless): H.264 is not measured", file=sys.stderr)
        return None
    if not DEMO_VIDEO.exists():
        print("no video for the camera (run `make media`): H.264 is not measured", file=sys.stderr)
        return None
    headset = Headset()
    evidence = run_to_completion(crypto.derive_public_key(crypto.generate_private_key()))
    board = Board(folder, evidence, RealParts(folder, headset.mic))
    durations: list[float] = []
    board.container.picture = timed(board.container.picture, durations)
    board.run(2)  # all parts are loaded and open after that
    frames, loop_s, process_s = board.ring_recorder.frames, time.thread_time(), time.process_time()
    board.slowest_ms = 0.0
    durations.clear()
    board.run(EVENT_S)
    board.recorder.trigger(1, 1, "", board.clock.now_ms(), (RECORDED_S - EVENT_S) * 1000)
    board.run(RECORDED_S - EVENT_S)
    loop_s, process_s = time.thread_time() - loop_s, time.process_time() - process_s
    frames = board.ring_recorder.frames - frames
    board.recorder.close(board.clock.now_ms())
    headset.close()
    return {
        "loop_ms_a_second": round(1000 * loop_s / RECORDED_S),
        "process_ms_a_second": round(1000 * process_s / RECORDED_S),
        "picture_ms": round(sum(durations) / len(durations), 2),
        "picture_p99_ms": round(sorted(durations)[len(durations) * 99 // 100], 1),
        "picture_most_ms": round(max(durations), 1),
        "slowest_ms": round(board.slowest_ms, 1),
        "frames": frames,
        "lost": board.ring_recorder.loss.total,
        "kbit_s": round(sum(board.files.size(name) for name in board.files.names()) * 8 / 1000 / (RECORDED_S + 2)),
    }


def main() -> int:
    out: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        out["mb_s"] = round(throughput(Path(folder)), 1)
        print(f"encrypted, hashed and stored (CPython): {out['mb_s']} MB/s")
    with tempfile.TemporaryDirectory() as folder:
        figures = heap(Path(folder))
        if figures is not None:
            out["micropython"] = figures
            total_kb = (figures["objects_most"] + figures["picture"]) / 1024
            print(f"heap of a recorder with 16 KB pictures (MicroPython): {total_kb:.1f} KB without its code;")
            print(f"  {figures['allocated_a_picture']} bytes allocated per picture,")
            print(f"  {figures['us_a_second']} us per second of video")
    with tempfile.TemporaryDirectory() as folder:
        figures = recording(Path(folder))
        if figures is not None:
            out["h264"] = figures
            print(f"H.264, 640x480 at 15, {RECORDED_S} s: {figures['frames']} frames, {figures['lost']} lost;")
            print(f"  {figures['kbit_s']} kbit/s; encoding a picture takes {figures['picture_ms']} ms,")
            print(f"  p99 {figures['picture_p99_ms']} ms, maximum {figures['picture_most_ms']} ms;")
            print(f"  {figures['loop_ms_a_second']} ms of CPU per second of video in the loop; longest round")
            print(f"  {figures['slowest_ms']} ms; {figures['process_ms_a_second']} ms with decoding and storage")
    path = ROOT / "build/bench/clips.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(out, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
