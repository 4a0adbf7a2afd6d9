"""What the agent costs on an emulated Cortex-M3: instructions, heap, boot, first fix, how long its loop stands still.

    python tests/bench/bench_board.py            print them, write build/bench/board.json, compare with the baseline
    python tests/bench/bench_board.py --accept   make them the baseline, tests/bench/board_baseline.json

Exit code 1 when a figure is above its baseline by more than the tolerance. An instruction takes 16 ns of virtual time
(-icount shift=4), so a cycle of the board's 25 MHz clock is 2.5 of them: exact to three a reading, and the same in
every run. Only the boot's wall time is not, and has no baseline.
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

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from board_loop import STANDS_STILL, stalls  # noqa: E402

ROOT = HERE.parent.parent
BASELINE = HERE / "board_baseline.json"
BOARD = "mps2_an385"
TOLERANCE = 0.10  # compilers of other Debian releases differ by a few per cent
PER_CYCLE = 2.5
EPOCH = ("RMC", "GGA", "GSA", "GSV")
LOG = ROOT / "tests" / "golden" / "nmea" / "ublox-neo-m9n-nmea.log"
WALK = ROOT / "tests" / "golden" / "tracks" / "walk-1hz.csv"
FIXES = 60
VOID_S = 60  # seconds without a fix before the first: the link is up by then
BOOTS = 5

Figures = dict[str, float]


@contextlib.contextmanager
def console(
    board: boards.Board, files: dict[str, bytes], typed: bytes
) -> Iterator[tuple[Lockstep, qemu.Straps, bytearray]]:
    """A board without a configuration in lock-step, at whose prompt `typed` is typed; its words come in the bytes."""
    assert board.image is not None and board.heap_kb is not None
    said = bytearray()
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as folder:
        work = Path(folder)
        for name, content in {"/bench.txt": b"", **files}.items():
            flash.provision(work / "flash.bin", board.image.flash_kb, name, content)
        rig = Lockstep(board, work, Scheduler(), limit_s=300)

        def hear(data: bytes) -> None:
            said.extend(data)
            if said.endswith(b">>> "):
                rig.deliver(qemu.CONSOLE_UART, typed + b"\r\n")

        rig.on_bytes = {qemu.CONSOLE_UART: hear}
        yield rig, qemu.Straps(board.heap_kb, board.image.flash_kb, "bench-1", 0, 1, lockstep=True), said


def count(board: boards.Board) -> Figures:
    """Instructions and bytes allocated, of each part of the agent's work."""
    lines = LOG.read_bytes().splitlines(keepends=True)
    walk = [line for p in tracks.read(WALK)[: FIXES + 1] for line in nmea.epoch(p).splitlines(keepends=True)]
    files = {
        "/log.nmea": b"".join(line for line in lines if line.startswith(b"$")),
        "/walk.nmea": b"".join(line for line in walk if line[3:6].decode() in EPOCH),
        "/board_driver.py": (HERE / "board_driver.py").read_bytes(),
    }
    with console(board, files, b"import board_driver") as (rig, straps, said):
        rig.life(straps)
    told = next((line for line in said.decode().splitlines() if line.startswith("{")), None)
    if told is None:
        raise DeviceError("the board did not come to its figures; the console ends with:\n" + said.decode())
    return figures(json.loads(told))


def figures(told: dict) -> Figures:
    """What the driver has told, as figures a sentence, a fix, a frame."""
    kinds, steps = told["sentences"], told["fixes"]
    out: Figures = {}
    for kind, (n, cycles, _) in sorted(kinds.items()):
        out[f"instructions a sentence, {kind}"] = cycles * PER_CYCLE / n
    epoch = [kinds[kind] for kind in EPOCH]
    out["instructions a sentence, an epoch's mean"] = sum(k[1] for k in epoch) * PER_CYCLE / sum(k[0] for k in epoch)
    frame_fixes, frame_bytes = steps.pop("frame")
    assert frame_fixes == FIXES
    each = {name: cycles * PER_CYCLE / n for name, (n, cycles, _) in steps.items()}
    out["instructions a fix, first byte to encoded"] = each["row"] + each["encode"]
    out["instructions a fix, encoding"] = each["encode"]
    out["instructions a frame, signing"] = each["sign"]
    out["instructions a frame, into the outbox"] = each["store"]
    out["instructions a publish, QoS 1"] = each["publish"]
    out["bytes allocated a sentence, an epoch's mean"] = sum(k[2] for k in epoch) / sum(k[0] for k in epoch)
    out["bytes allocated a fix"] = steps["row"][2] / steps["row"][0] + steps["encode"][2] / steps["encode"][0]
    out["bytes a frame"] = frame_bytes
    return {name: round(value, 1) for name, value in out.items()}


class FirstFix(Shift):
    """A shift whose receiver has no fix for its first minute."""

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
    """Seconds from the receiver's first fix to its frame at the broker, and the heap's high-water mark."""
    shift = FirstFix(board, PROFILES["city"], 1, name="city", sos_h=(0.05,))
    told = shift.run(0.1)
    # Epochs before the first fix have no date of the receiver's: they come under other times, and count as lost there.
    if told.problems or told.resets or shift.published_ms is None or shift.fix_at_ms is None:
        raise DeviceError(f"the patrol of the bench went wrong: {told.problems + told.resets}")
    return {
        "ms from the receiver's first fix to the broker": round(shift.published_ms - shift.fix_at_ms),
        "bytes of heap at the high-water mark": told.heap_peak_bytes,
    }


def boot_s(board: boards.Board) -> float:
    """Wall time from power on to the agent's first word, the best of several."""
    best = float("inf")
    for _ in range(BOOTS):
        with console(board, {}, b"import machine; machine.deepsleep()") as (rig, straps, said):
            inner = rig.on_bytes[qemu.CONSOLE_UART]
            heard: list[float] = []

            def hear(data: bytes, inner=inner, heard=heard) -> None:
                inner(data)
                heard.append(time.perf_counter())

            rig.on_bytes = {qemu.CONSOLE_UART: hear}
            start = time.perf_counter()
            rig.life(straps)
            assert said.startswith(b"patrolink on")
            best = min(best, heard[0] - start)
    return round(best, 3)


def measure(board: boards.Board) -> Figures:
    """All figures that have a baseline."""
    return {**count(board), **patrol(board), **stalls(board)}


def compared(found: Figures, baseline: Figures) -> list[str]:
    """What is wrong with the figures, in words: those above the baseline, and those that only one side has."""
    wrong = []
    for name, value in found.items():
        if name.startswith(STANDS_STILL):
            continue  # a collection more or less moves it with every change of the image: it has a bar
        if name not in baseline:
            wrong.append(f"{name}: {value:,} has no baseline")
        elif value > baseline[name] * (1 + TOLERANCE):
            wrong.append(f"{name}: {value:,}, the baseline is {baseline[name]:,} (tolerance {TOLERANCE:.0%})")
    wrong += [f"{name}: was not measured" for name in baseline if name not in found]
    return [text + "; mend it, or accept it: tests/bench/bench_board.py --accept" for text in wrong]


def main() -> int:
    board = boards.find(BOARD)
    if board.missing():
        print(f"{BOARD}: skipped; apt-get install {' '.join(board.missing())}", file=sys.stderr)
        return 0
    found = measure(board)
    if "--accept" in sys.argv[1:]:
        held = {name: value for name, value in found.items() if not name.startswith(STANDS_STILL)}
        BASELINE.write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    out = ROOT / "build" / "bench" / "board.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    boot = {"s of wall time to the agent's first word": boot_s(board)}
    out.write_text(json.dumps({**found, **boot}, indent=2) + "\n", encoding="utf-8")
    for name, value in {**found, **boot}.items():
        print(f"{name}: {value:,}")
    wrong = compared(found, baseline)
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"written to {out.relative_to(ROOT)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
