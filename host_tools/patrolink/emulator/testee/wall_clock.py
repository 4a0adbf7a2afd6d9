"""The time of day of a testee on a virtual clock: it never goes back, also when the testee is started again."""

from pathlib import Path

from patrolink.emulator.scheduler import Scheduler

_START_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z


class WallClock:
    """Time of day.

    Args:
        path: File that holds the time while the testee is not running.
        scheduler: Virtual clock; it begins at 0.
    """

    def __init__(self, path: Path, scheduler: Scheduler) -> None:
        self._path, self._scheduler = path, scheduler
        self._start_ms = int(path.read_text(encoding="ascii")) if path.exists() else _START_MS

    def unix_ms(self) -> int:
        """Return the Unix time in milliseconds."""
        return self._start_ms + int(self._scheduler.now)

    def save(self) -> None:
        """Store the time."""
        part = self._path.with_suffix(".part")
        part.write_text(str(self.unix_ms()), encoding="ascii")
        part.replace(self._path)
