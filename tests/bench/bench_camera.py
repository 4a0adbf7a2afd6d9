"""Pictures of an emulated serial camera: how many a second, how many are lost, what one costs.

Writes build/bench/camera.json. Bar: 5 pictures a second of 320x240 on unix, none lost in a minute; exit code 1 when it
is missed. On mps2_an385 what its line gives at 160x120, in real time, and counted: instructions and bytes allocated.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_board import BOARD, HERE, PER_CYCLE, ROOT, console
from patrolink.core import boards, resources
from patrolink.emulator.boards import qemu
from patrolink.emulator.peripherals import flash
from patrolink.emulator.peripherals.camera import SerialCamera

FILM = ROOT / "build" / "media" / "bikes.mp4"
PIPE = ROOT / "tests" / "integration" / "device" / "camera_pipe.py"
SECONDS = 60
BAR_FPS = 5


def gaps(times: list[int], fps: int) -> dict[str, float]:
    """Pictures a second, the longest way from one to the next, and how many places in the film are empty."""
    spans = [b - a for a, b in zip(times, times[1:], strict=False)]
    lost = sum(round(span * fps / 1000) - 1 for span in spans if span * fps > 1500)
    rate = 1000 * len(spans) / (times[-1] - times[0])
    return {"pictures": len(times), "a second": round(rate, 2), "longest ms": max(spans), "lost": lost}


def on_unix() -> dict[str, float]:
    """The driver on MicroPython with the heap of the board."""
    board = boards.find("unix")
    assert board.camera is not None
    camera = SerialCamera(FILM)
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as folder:
        indicator = Path(folder) / "value"
        indicator.write_text("0")
        given = {**board.config()["camera"], "source": camera.path, "indicator": str(indicator)}
        config = Path(folder) / "camera.json"
        config.write_text(json.dumps(given))
        heap = f"heapsize={board.heap({'camera': given})}K"
        command = [*resources.interpreter("micropython"), "-X", heap, str(PIPE), str(config)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(SECONDS)
        said = process.communicate(timeout=30)[0]
    camera.close()
    told = [json.loads(line) for line in said.splitlines()]
    pictures = [t for t in told if "bytes" in t]
    found = gaps([p["ms"] for p in pictures], board.camera.fps)
    found["bytes a picture"] = round(sum(p["bytes"] for p in pictures) / len(pictures))
    found["longest call us"] = pictures[-1]["longest_us"]
    found["damaged"] = told[-1]["damaged"]
    return found


def driver(line: bool) -> bytes:
    """The text of the board's part."""
    text = (HERE / "camera_driver.py").read_text(encoding="utf-8")
    return f"LINE, SECONDS = {line}, {SECONDS}\n".encode() + text.encode()


def counted(board: boards.Board) -> dict[str, tuple[int, int]]:
    """Instructions and bytes allocated a picture, by part."""
    with console(board, {"/camera_driver.py": driver(False)}, b"import camera_driver") as (rig, straps, said):
        rig.life(straps)
    return {name: (round(cycles * PER_CYCLE), heap) for name, (cycles, heap) in told(said.decode()).items()}


def told(said: str) -> dict:
    """The line of JSON among the board's words."""
    line = next((line for line in said.splitlines() if line.startswith("{")), None)
    if line is None:
        raise SystemExit("the board did not come to its figures; the console ends with:\n" + said)
    return json.loads(line)


def on_board(board: boards.Board) -> dict[str, float]:
    """Firmware in real time, the camera's PTY on its UART 3."""
    assert board.image is not None and board.heap_kb is not None
    elf = qemu.build_image(board)
    camera = SerialCamera(FILM)
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as folder:
        work = Path(folder)
        for name, content in {"/bench.txt": b"", "/camera_driver.py": driver(True)}.items():
            flash.provision(work / "flash.bin", board.image.flash_kb, name, content)
        straps = qemu.Straps(board.heap_kb, board.image.flash_kb, "bench-1", int(time.time()), 1)
        command = qemu.command(board, elf, work, straps)
        command += ["-chardev", "stdio,id=u0,signal=off", "-serial", "chardev:u0", "-serial", "null", "-serial", "null"]
        command += ["-chardev", f"serial,path={camera.path},id=u3", "-serial", "chardev:u3", "-serial", "null"]
        process = subprocess.Popen(command, cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(1)
        said = process.communicate(b"import camera_driver\r\n", timeout=SECONDS + 60)[0].decode()
    camera.close()
    it = told(said)
    found = gaps(it["ms"], it["fps"])
    found["bytes a picture"] = round(it["bytes"] / len(it["ms"]))
    return found | {"damaged": it["damaged"], "heap of the driver": it["heap"], "overruns": it["board"]["overruns"]}


def main() -> int:
    if not FILM.exists():
        print("skipped: no film for the camera; make media", file=sys.stderr)
        return 0
    found: dict = {"unix, 320x240": on_unix()}
    missed = found["unix, 320x240"]["a second"] < BAR_FPS * 0.98 or found["unix, 320x240"]["lost"] > 0
    board = boards.find(BOARD)
    if board.missing_packages():
        print(f"{BOARD}: skipped; apt-get install {' '.join(board.missing_packages())}", file=sys.stderr)
    else:
        found[f"{BOARD}, instructions and bytes allocated a picture of 4000 bytes"] = counted(board)
        found[f"{BOARD}, 160x120"] = on_board(board)
    out = ROOT / "build" / "bench" / "camera.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for name, values in found.items():
        print(f"{name}: {json.dumps(values)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
