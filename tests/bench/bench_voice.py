"""Measure a 60 ms frame of voice on MicroPython: A-law, RTP and SRTP. Writes build/bench/voice.json.

Limits: 300 us on this machine, 1.2 million instructions on the emulated Cortex-M3 (equal in every run), no allocation.
The exit code is 1 if a limit is exceeded.
"""

import json
import subprocess
import sys

from bench_board import BOARD, FOLDER, PER_CYCLE, ROOT, console
from patrolink.core import boards, resources

US_MAX, INSTRUCTIONS_MAX = 300, 1_200_000
FOLDERS = ("device", "protocol", "protocol/generated")


def on_unix() -> dict:
    """Return the times on the unix port in microseconds, with the heap of a small board."""
    paths = [str(ROOT / folder) for folder in FOLDERS]
    code = f"import sys\nsys.path[:0] = {paths!r}\nexec(open({str(FOLDER / 'voice_driver.py')!r}).read())"
    command = [*resources.interpreter("micropython"), "-X", "heapsize=192K", "-c", code]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def on_board(board: boards.Board) -> dict:
    """Return the number of instructions on the emulated board."""
    driver = (FOLDER / "voice_driver.py").read_bytes() + b"\nimport machine\n\nmachine.deepsleep()\n"
    with console(board, {"/voice_driver.py": driver}, b"import voice_driver") as (rig, straps, output):
        rig.life(straps)
    result = next((line for line in output.decode().splitlines() if line.startswith("{")), None)
    if result is None:
        raise SystemExit("the board printed no figures; the console ends with:\n" + output.decode())
    return {name: (round(cycles * PER_CYCLE), n) for name, (cycles, n) in json.loads(result).items()}


def main() -> int:
    figures = {f"us a frame on unix: {name}": value for name, value in on_unix().items()}
    missed = figures["us a frame on unix: speak"][0] > US_MAX
    board = boards.find(BOARD)
    if board.missing_packages():
        print(f"{BOARD}: skipped; apt-get install {' '.join(board.missing_packages())}", file=sys.stderr)
    else:
        counted = on_board(board)
        figures |= {f"instructions a frame on {BOARD}: {name}": value for name, value in counted.items()}
        missed |= counted["speak"][0] > INSTRUCTIONS_MAX
    missed |= any(allocated for _, allocated in figures.values())
    out = ROOT / "build" / "bench" / "voice.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, (value, allocated) in figures.items():
        print(f"{name}: {value:,}, {allocated} bytes allocated")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
