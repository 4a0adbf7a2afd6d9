"""Measure the agent on an emulated Cortex-M3: instructions, heap, boot, first fix, pauses of its loop.

usage: python tests/bench/bench_board.py            write build/bench/board.json, compare with the baseline
       python tests/bench/bench_board.py --accept   store the figures as the baseline, tests/bench/board_baseline.json

Exit code 1 if a figure exceeds its baseline by more than the tolerance. An instruction takes 16 ns of virtual time
(-icount shift=4), so a cycle of the board's 25 MHz clock is 2.5 instructions. Readings are exact to 3 instructions and
equal in every run. Only the wall time of the boot varies; it has no baseline.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from patrolink.core import boards, tracks
from patrolink.core.errors import DeviceError
from patrolink.emulator.boards import qemu
from patrolink.emulator.boards.lockstep import Lockstep
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.peripherals import flash, nmea
from patrolink.emulator.scenarios.shift import Shift
from patrolink.emulator.scheduler import Scheduler

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
sys.path.insert(0, str(FOLDER.parent.parent / "protocol"))
import inline_constants  # noqa: E402
from board_loop import LOOP_PAUSE, measure_pauses  # noqa: E402

ROOT = FOLDER.parent.parent
BASELINE = FOLDER / "board_baseline.json"
BOARD = "mps2_an385"
TOLERANCE = 0.10  # results of other compiler versions differ by a few per cent
PER_CYCLE = 2.5
EPOCH = ("RMC", "GGA", "GSA", "GSV")
LOG = ROOT / "tests" / "golden" / "nmea" / "ublox-neo-m9n-nmea.log"
WALK = ROOT / "tests" / "golden" / "tracks" / "walk-1hz.csv"
FIXES = 60
VOID_S = 60  # seconds without a fix at the start; the link is up after that
BOOTS = 5

Figures = dict[str, float]


@contextlib.contextmanager
def console(
    board: boards.Board, files: dict[str, bytes], command: bytes
) -> Iterator[tuple[Lockstep, qemu.Straps, bytearray]]:
    """Prepare a board without configuration in lock-step; `command` is entered at its prompt.

    Yields:
        Its rig, its straps, and its console output.
    """
    assert board.image is not None and board.heap_kb is not None
    output = bytearray()
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as folder:
        work = Path(folder)
        for name, content in {"/bench.txt": b"", **files}.items():
            flash.provision(work / "flash.bin", board.image.flash_kb, name, content)
        rig = Lockstep(board, work, Scheduler(), limit_s=300)

        def on_output(data: bytes) -> None:
            output.extend(data)
            if output.endswith(b">>> "):
                rig.deliver(qemu.CONSOLE_UART, command + b"\r\n")

        rig.on_bytes = {qemu.CONSOLE_UART: on_output}
        yield rig, qemu.Straps(board.heap_kb, board.image.flash_kb, "bench-1", 0, 1, lockstep=True), output


def board_driver() -> str:
    """Return the driver's source with constants inlined, because the firmware does not contain their module."""
    text = (FOLDER / "board_driver.py").read_text(encoding="utf-8")
    return inline_constants.inline(text, "patrolink_messages", inline_constants.constants("patrolink_messages"))


def count(board: boards.Board) -> Figures:
    """Count instructions and allocated bytes of each part of the agent."""
    lines = LOG.read_bytes().splitlines(keepends=True)
    walk = [line for p in tracks.read(WALK)[: FIXES + 1] for line in nmea.epoch(p).splitlines(keepends=True)]
    files = {
        "/log.nmea": b"".join(line for line in lines if line.startswith(b"$")),
        "/walk.nmea": b"".join(line for line in walk if line[3:6].decode() in EPOCH),
        "/board_driver.py": board_driver().encode(),
    }
    with console(board, files, b"import board_driver") as (rig, straps, output):
        rig.life(straps)
    result = next((line for line in output.decode().splitlines() if line.startswith("{")), None)
    if result is None:
        raise DeviceError("the board did not report its figures; the console ends with:\n" + output.decode())
    return figures(json.loads(result))


def figures(result: dict) -> Figures:
    """Return the figures of the driver, per sentence, fix and frame."""
    kinds, steps = result["sentences"], result["fixes"]
    out: Figures = {}
    for kind, (n, cycles, _) in sorted(kinds.items()):
        out[f"instructions per sentence, {kind}"] = cycles * PER_CYCLE / n
    epoch = [kinds[kind] for kind in EPOCH]
    out["instructions per sentence, mean of an epoch"] = sum(k[1] for k in epoch) * PER_CYCLE / sum(k[0] for k in epoch)
    frame_fixes, frame_bytes = steps.pop("frame")
    assert frame_fixes == FIXES
    per_unit = {name: cycles * PER_CYCLE / n for name, (n, cycles, _) in steps.items()}
    out["instructions per fix, first byte to encoded"] = per_unit["row"] + per_unit["encode"]
    out["instructions per fix, encoding"] = per_unit["encode"]
    out["instructions per frame, encrypting"] = per_unit["encrypt"]
    out["instructions per frame, signing"] = per_unit["sign"] - per_unit["encrypt"]  # `seal_into` does both
    out["instructions per frame, into the outbox"] = per_unit["store"]
    out["instructions per publish, QoS 1"] = per_unit["publish"]
    out["bytes allocated per sentence, mean of an epoch"] = sum(k[2] for k in epoch) / sum(k[0] for k in epoch)
    out["bytes allocated per fix"] = steps["row"][2] / steps["row"][0] + steps["encode"][2] / steps["encode"][0]
    out["bytes per frame"] = frame_bytes
    return {name: round(value, 1) for name, value in out.items()}


class FirstFix(Shift):
    """A shift whose receiver has no fix in its first minute."""

    fix_at_ms: float | None = None
    published_ms: float | None = None

    def _epochs(self) -> Iterator[bytes]:
        for data in super()._epochs():
            if self.scheduler.now >= VOID_S * 1000:
                if self.fix_at_ms is None:
                    self.fix_at_ms = self.scheduler.now
                yield data
                continue
            clock = data.split(b",")[1].decode()
            date = data.split(b",")[9].decode()
            bodies = (
                f"GNRMC,{clock},V,,,,,,,{date},,,N,V",
                f"GNGGA,{clock},,,,,0,00,99.99,,M,,M,,",
                "GNGSA,A,1" + "," * 16,
            )
            yield b"".join(nmea.sentence(body) for body in bodies)

    def _check_message(self, message) -> None:
        super()._check_message(message)
        fixes = message["fixes"] if message["message"] == "position_batch" else ()
        if self.published_ms is None and any(fix["lat_e7"] is not None for fix in fixes):
            self.published_ms = self.scheduler.now


def patrol(board: boards.Board) -> Figures:
    """Measure the ms from the receiver's first fix to its frame at the broker, and the heap peak."""
    shift = FirstFix(board, PROFILES["city"], 1, name="city", sos_h=(0.05,))
    result = shift.run(0.1)
    # Epochs before the first fix have no date, so they arrive with other times and count as lost. Losses are not
    # checked.
    if result.problems or result.resets or shift.published_ms is None or shift.fix_at_ms is None:
        raise DeviceError(f"the patrol failed: {result.problems + result.resets}")
    return {
        "ms from first fix to broker": round(shift.published_ms - shift.fix_at_ms),
        "bytes of heap, high-water mark": result.heap_peak_bytes,
    }


def boot_s(board: boards.Board) -> float:
    """Return the shortest wall time from power-on to the agent's first output."""
    best = float("inf")
    for _ in range(BOOTS):
        with console(board, {}, b"import machine; machine.deepsleep()") as (rig, straps, output):
            feed = rig.on_bytes[qemu.CONSOLE_UART]
            boot_times: list[float] = []

            def on_output(data: bytes, feed=feed, boot_times=boot_times) -> None:
                feed(data)
                boot_times.append(time.perf_counter())

            rig.on_bytes = {qemu.CONSOLE_UART: on_output}
            start = time.perf_counter()
            rig.life(straps)
            assert output.startswith(b"patrolink on")
            best = min(best, boot_times[0] - start)
    return round(best, 3)


def measure(board: boards.Board) -> Figures:
    """Return all figures that have a baseline."""
    return {**count(board), **patrol(board), **measure_pauses(board)}


def compare(measured: Figures, baseline: Figures) -> list[str]:
    """Compare figures with the baseline.

    Returns:
        One sentence for each figure above its baseline, and for each figure that was not measured or has no baseline.
    """
    problems = []
    for name, value in measured.items():
        if name.startswith(LOOP_PAUSE):
            continue  # varies with every image, because garbage collections move; it has a fixed limit instead
        if name not in baseline:
            problems.append(f"{name}: {value:,} has no baseline")
        elif value > baseline[name] * (1 + TOLERANCE):
            problems.append(f"{name}: {value:,} exceeds the baseline {baseline[name]:,} (tolerance {TOLERANCE:.0%})")
    problems += [f"{name}: not measured" for name in baseline if name not in measured]
    return [text + "; fix it, or accept it with tests/bench/bench_board.py --accept" for text in problems]


def main() -> int:
    board = boards.find(BOARD)
    if board.missing_packages():
        print(f"{BOARD}: skipped; apt-get install {' '.join(board.missing_packages())}", file=sys.stderr)
        return 0
    measured = measure(board)
    if "--accept" in sys.argv[1:]:
        accepted = {name: value for name, value in measured.items() if not name.startswith(LOOP_PAUSE)}
        BASELINE.write_text(json.dumps(accepted, indent=2) + "\n", encoding="utf-8")
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    out = ROOT / "build" / "bench" / "board.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    boot = {"s of wall time to the first output": boot_s(board)}
    out.write_text(json.dumps({**measured, **boot}, indent=2) + "\n", encoding="utf-8")
    for name, value in {**measured, **boot}.items():
        print(f"{name}: {value:,}")
    problems = compare(measured, baseline)
    for text in problems:
        print(text, file=sys.stderr)
    print(f"written to {out.relative_to(ROOT)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
