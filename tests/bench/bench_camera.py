"""Measure pictures of an emulated serial camera: rate, losses, and the cost of one picture.

Writes build/bench/camera.json. Limit: 5 pictures of 320x240 per second on unix and none lost in a minute; the exit code
is 1 if it is missed. On mps2_an385: the rate that its UART allows at 160x120 in real time, and the instructions and
allocated bytes per picture.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_board import BOARD, FOLDER, PER_CYCLE, ROOT, console
from patrolink.core import boards, resources
from patrolink.emulator.boards import qemu
from patrolink.emulator.peripherals import flash
from patrolink.emulator.peripherals.camera import SerialCamera

VIDEO = ROOT / "build" / "media" / "bikes.mp4"
PIPE = ROOT / "tests" / "integration" / "device" / "camera_pipe.py"
SECONDS = 60
FPS_MIN = 5


def gaps(times: list[int], fps: int) -> dict[str, float]:
    """Return the number of pictures, the frame rate, the longest interval, and the number of lost pictures."""
    spans = [b - a for a, b in zip(times, times[1:], strict=False)]
    lost = sum(round(span * fps / 1000) - 1 for span in spans if span * fps > 1500)
    rate = 1000 * len(spans) / (times[-1] - times[0])
    return {"pictures": len(times), "a second": round(rate, 2), "longest ms": max(spans), "lost": lost}


def on_unix() -> dict[str, float]:
    """Measure the driver on MicroPython with the heap of the board."""
    board = boards.find("unix")
    assert board.camera is not None
    camera = SerialCamera(VIDEO)
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as folder:
        indicator = Path(folder) / "value"
        indicator.write_text("0")
        settings = {**board.config()["camera"], "source": camera.path, "indicator": str(indicator)}
        config = Path(folder) / "camera.json"
        config.write_text(json.dumps(settings))
        heap = f"heapsize={board.heap({'camera': settings})}K"
        command = [*resources.interpreter("micropython"), "-X", heap, str(PIPE), str(config)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(SECONDS)
        output = process.communicate(timeout=30)[0]
    camera.close()
    records = [json.loads(line) for line in output.splitlines()]
    pictures = [t for t in records if "bytes" in t]
    figures = gaps([p["ms"] for p in pictures], board.camera.fps)
    figures["bytes a picture"] = round(sum(p["bytes"] for p in pictures) / len(pictures))
    figures["longest call us"] = pictures[-1]["longest_us"]
    figures["damaged"] = records[-1]["damaged"]
    return figures


def driver_source(line: bool) -> bytes:
    """Return the source of the driver that runs on the board."""
    text = (FOLDER / "camera_driver.py").read_text(encoding="utf-8")
    return f"LINE, SECONDS = {line}, {SECONDS}\n".encode() + text.encode()


def count_costs(board: boards.Board) -> dict[str, tuple[int, int]]:
    """Return the instructions and allocated bytes per picture of each part."""
    with console(board, {"/camera_driver.py": driver_source(False)}, b"import camera_driver") as (rig, straps, output):
        rig.life(straps)
    return {name: (round(cycles * PER_CYCLE), heap) for name, (cycles, heap) in parse_result(output.decode()).items()}


def parse_result(output: str) -> dict:
    """Return the JSON object that the board printed."""
    line = next((line for line in output.splitlines() if line.startswith("{")), None)
    if line is None:
        raise SystemExit("the board printed no figures; the console ends with:\n" + output)
    return json.loads(line)


def on_board(board: boards.Board) -> dict[str, float]:
    """Measure the firmware in real time, with the camera's PTY on its UART 3."""
    assert board.image is not None and board.heap_kb is not None
    elf = qemu.build_image(board)
    camera = SerialCamera(VIDEO)
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as folder:
        work = Path(folder)
        for name, content in {"/bench.txt": b"", "/camera_driver.py": driver_source(True)}.items():
            flash.provision(work / "flash.bin", board.image.flash_kb, name, content)
        straps = qemu.Straps(board.heap_kb, board.image.flash_kb, "bench-1", int(time.time()), 1)
        command = qemu.command(board, elf, work, straps)
        command += ["-chardev", "stdio,id=u0,signal=off", "-serial", "chardev:u0", "-serial", "null", "-serial", "null"]
        command += ["-chardev", f"serial,path={camera.path},id=u3", "-serial", "chardev:u3", "-serial", "null"]
        process = subprocess.Popen(command, cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(1)
        output = process.communicate(b"import camera_driver\r\n", timeout=SECONDS + 60)[0].decode()
    camera.close()
    result = parse_result(output)
    figures = gaps(result["ms"], result["fps"])
    figures["bytes a picture"] = round(result["bytes"] / len(result["ms"]))
    return figures | {
        "damaged": result["damaged"],
        "heap of the driver": result["heap"],
        "overruns": result["board"]["overruns"],
    }


def main() -> int:
    if not VIDEO.exists():
        print("skipped: no video for the camera; run `make media`", file=sys.stderr)
        return 0
    figures: dict = {"unix, 320x240": on_unix()}
    missed = figures["unix, 320x240"]["a second"] < FPS_MIN * 0.98 or figures["unix, 320x240"]["lost"] > 0
    board = boards.find(BOARD)
    if board.missing_packages():
        print(f"{BOARD}: skipped; apt-get install {' '.join(board.missing_packages())}", file=sys.stderr)
    else:
        figures[f"{BOARD}, instructions and bytes allocated a picture of 4000 bytes"] = count_costs(board)
        figures[f"{BOARD}, 160x120"] = on_board(board)
    out = ROOT / "build" / "bench" / "camera.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, values in figures.items():
        print(f"{name}: {json.dumps(values)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
