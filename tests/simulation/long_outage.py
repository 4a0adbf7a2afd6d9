"""Simulates a long outage on a virtual clock and prints what the outbox has kept and what it has written to flash.

usage: python tests/simulation/long_outage.py [HOURS [SEED]]     default 72 hours

The agent runs with the default outbox and one fix per second; the network is away from the first minute until the
receiver stops, then everything is delivered. Two figures of flash:

    files     bytes passed to `Files.append` and `Store.write`
    littlefs  bytes programmed by littlefs (blocks of 4 KiB, pages of 256 bytes) for the same operations, in the same
              order. It includes the copies of partly filled blocks and the metadata: what wears the chip.

Exit code 1 if the newest fixes are missing, more than 10 MB are programmed, a frame is lost without being counted as
thinned, or the SOS is lost.
"""

import sys
from typing import Any

from littlefs import LittleFS, UserContext
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.scenarios.simulation import Simulation

MINUTE_MS = 60_000.0
PROFILE = Profile(200, 0, 0.0, 64, 64)
BLOCK = 4096
CHIP_BLOCKS = 512
PROGRAMMED_MAX = 10_000_000
BATCH_S = 60
OUTBOX_KB = 256  # the default of the device


class _Chip(UserContext):  # type: ignore[misc]  # the library has no types
    """Flash chip that counts the bytes programmed."""

    def __init__(self) -> None:
        super().__init__(BLOCK * CHIP_BLOCKS)
        self.programmed = 0

    def prog(self, cfg: Any, block: int, off: int, data: bytes) -> int:
        self.programmed += len(data)
        return int(super().prog(cfg, block, off, data))


class Mirror:
    """Carries out the storage operations of a simulated board on littlefs, too."""

    def __init__(self, sim: Simulation) -> None:
        self._chip = _Chip()
        self._fs = LittleFS(context=self._chip, block_size=BLOCK, block_count=CHIP_BLOCKS, prog_size=256, mount=False)
        self._fs.format()
        self._fs.mount()
        self._chip.programmed = 0
        self._paths: set[str] = set()
        hal = sim.hal
        files, store = hal.Files, hal.Store
        hal.Files = lambda folder: self._wrap(files(folder), folder)  # type: ignore[method-assign]
        hal.Store = lambda folder: self._wrap(store(folder), folder)  # type: ignore[method-assign]

    @property
    def programmed(self) -> int:
        """Bytes programmed."""
        return self._chip.programmed

    def _wrap(self, storage: Any, folder: str) -> Any:
        self._fs.makedirs(folder, exist_ok=True)
        for method in ("append", "write", "remove"):
            if hasattr(storage, method):
                setattr(storage, method, self._mirrored(getattr(storage, method), getattr(self, f"_{method}"), folder))
        return storage

    @staticmethod
    def _mirrored(original: Any, mirror: Any, folder: str) -> Any:
        def call(name: str, *rest: Any) -> None:
            original(name, *rest)
            mirror(f"{folder}/{name}", *rest)

        return call

    def _append(self, path: str, data: bytes) -> None:
        with self._fs.open(path, "r+b" if path in self._paths else "wb") as f:
            f.seek(0, 2)
            f.write(bytes(data))
        self._paths.add(path)

    def _write(self, path: str, data: bytes) -> None:
        with self._fs.open(path, "wb") as f:
            f.write(bytes(data))

    def _remove(self, path: str) -> None:
        self._fs.remove(path)
        self._paths.remove(path)


def run(hours: float, seed: int, outbox_kb: int) -> dict[str, Any]:
    """Simulate an outage of a number of hours; return its figures."""
    sim = Simulation(PROFILE, seed, tls=False, settings={"outbox_kb": outbox_kb})
    mirror = Mirror(sim)
    end_ms = hours * 60 * MINUTE_MS
    last_fix_ms = int((sim.unix_ms() + end_ms) // 1000 * 1000 - 1000)
    statuses: list[int] = []
    figures: dict[str, Any] = {"hours": hours}

    def on_message(message: dict[str, Any]) -> None:
        if message["message"] == "device_status" and sim.scheduler.now > end_ms:
            statuses.append(message["uptime_s"])

    def measure() -> None:
        flash = sim.hal.flash
        figures["fixes"] = sim.device.reporter.rows
        figures["files_bytes"], figures["littlefs_bytes"] = flash.written, mirror.programmed
        figures["outbox_bytes"] = sim.device.outbox.bytes
        figures["outbox_files"] = sum(name.startswith("state/outbox/") for name in flash.files)

    sim.on_message = on_message  # type: ignore[assignment,method-assign]
    sim.scheduler.at(MINUTE_MS, lambda: sim.network.outage(end_ms))
    sim.scheduler.at(end_ms / 2, sim.press_sos)
    sim.scheduler.at(end_ms, measure)
    report = sim.run(hours)
    times = sorted(sim.fix_times)
    return figures | {
        "fixes_kept": len(times),
        "newest_fix_age_s": (last_fix_ms - times[-1]) // 1000,
        "newest_whole_s": _whole_s(times),
        "largest_gap_s": max(b - a for a, b in zip(times, times[1:], strict=False)) // 1000,
        "statuses_kept": len(statuses),
        "frames_thinned": report.thinned,
        "frames_lost": report.lost,
        "frames_refused": report.refused_by_storage,
        "sos_delivered": report.event_max_s is not None,
    }


def _whole_s(times: list[int]) -> int:
    """Return for how many seconds at the end no fix is missing."""
    last = len(times) - 1
    while last and times[last] - times[last - 1] == 1000:
        last -= 1
    return len(times) - last


def problems(figures: dict[str, Any]) -> list[str]:
    """Return what is wrong with the figures of a run."""
    rules = {
        "the newest fixes are missing": figures["newest_fix_age_s"] <= 1 and figures["newest_whole_s"] >= 3600,
        "the track has a hole": figures["largest_gap_s"] <= 8 * BATCH_S,
        "statuses are not thinned": 1 <= figures["statuses_kept"] <= 20,
        "too much is written to flash": figures["littlefs_bytes"] <= PROGRAMMED_MAX,
        "a frame is lost or refused": not figures["frames_lost"] and not figures["frames_refused"],
        "the SOS is lost": figures["sos_delivered"],
    }
    return [problem for problem, holds in rules.items() if not holds]


def main(hours: float, seed: int) -> int:
    figures = run(hours, seed, OUTBOX_KB)
    print(", ".join(f"{name} {value:,}" for name, value in figures.items()))
    wrong = problems(figures)
    for problem in wrong:
        print(f"seed {seed}: {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(float(arguments[0]) if arguments else 72, int(arguments[1]) if len(arguments) > 1 else 1))
