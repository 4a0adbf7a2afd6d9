"""Decides what is old enough to be deleted, without trust in the time of day.

Deletion has two stages. Each item is marked, on storage, with the hub's running time when it is first seen or has
changed. It is deleted when both clocks agree: the time of day says that it is older than the retention, and the hub has
run for the retention since the mark. The running time counts monotonic milliseconds over all runs of the hub, so
that no jump of the time of day can delete anything, and time during which the hub does not run is not counted. Of an
item whose time is more than a day ahead, the running time alone decides: it was written while the clock was wrong.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.infra import persistence

DAY_MS = 86_400_000
_JUMP_MS = 60_000  # difference of both clocks between two calls
_STOPPED_MAX_MS = DAY_MS  # a longer time between two runs is reported, because it may be a jump


class RunningTime(NamedTuple):
    """Milliseconds that the hub has run, and by how many the time of day jumped since the last call; 0: it did not."""

    running_ms: int
    jump_ms: int


class RunningTimeCounter:
    """Counts the running time of a hub over restarts. After kill -9 the time since the last `save` is lost.

    Args:
        path: File that keeps the time. If it is lost or damaged, everything counts as first seen after this start.
        clock: Source of time.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._running_ms, self._unix_ms = 0, clock.unix_ms()
        with contextlib.suppress(UserError, KeyError, TypeError, ValueError):
            stored = persistence.load_json(path)
            if stored is not None:
                self._running_ms, self._unix_ms = int(stored["running_ms"]), int(stored["unix_ms"])
        self._monotonic_ms = clock.monotonic_ms()
        self._is_first = True

    def advance(self) -> RunningTime:
        """Count the time since the last call."""
        unix_ms, monotonic_ms = self._clock.unix_ms(), self._clock.monotonic_ms()
        elapsed_ms, step_ms = monotonic_ms - self._monotonic_ms, unix_ms - self._unix_ms
        highest_ms = _STOPPED_MAX_MS if self._is_first else _JUMP_MS
        jump_ms = step_ms - elapsed_ms
        self._running_ms, self._unix_ms, self._monotonic_ms = self._running_ms + elapsed_ms, unix_ms, monotonic_ms
        self._is_first = False
        return RunningTime(self._running_ms, 0 if -_JUMP_MS <= jump_ms <= highest_ms else jump_ms)

    def save(self) -> None:
        """Write the time to storage. Blocks on storage. Raises OSError."""
        persistence.save_json(self._path, {"running_ms": self._running_ms, "unix_ms": self._unix_ms})


class Item(NamedTuple):
    """What may be deleted: the unix time its age counts from, and a number that changes whenever it is written to."""

    time_ms: int
    version: int


class _Mark(NamedTuple):
    version: int
    running_ms: int


class RetentionLedger:
    """Marks of the items of one store.

    Args:
        path: File that keeps the marks. If it is lost or damaged, every item counts as first seen.
        days: The retention.
    """

    def __init__(self, path: Path, days: int) -> None:
        self.days = days
        self._path = path
        self._is_saved = True
        self._marks: dict[str, _Mark] = {}
        with contextlib.suppress(UserError, AttributeError, TypeError, ValueError):
            stored = persistence.load_json(path) or {}
            self._marks = {str(name): _Mark(int(version), int(ms)) for name, (version, ms) in stored.items()}

    def due(self, items: Mapping[str, Item], unix_ms: int, running_ms: int) -> list[str]:
        """Mark items that are new or changed, and return the names of those to delete.

        Args:
            items: All items of the store, by name. Others are forgotten.
            unix_ms: The time of day.
            running_ms: The hub's running time.
        """
        marks, due = {}, []
        retention_ms = self.days * DAY_MS
        for name, item in items.items():
            mark = self._marks.get(name)
            if mark is None or mark.version != item.version or mark.running_ms > running_ms:
                mark = _Mark(item.version, running_ms)
            marks[name] = mark
            is_young = -DAY_MS <= unix_ms - item.time_ms < retention_ms
            if not is_young and running_ms - mark.running_ms >= retention_ms:
                due.append(name)
        self._is_saved = self._is_saved and marks == self._marks
        self._marks = marks
        return due

    def save(self) -> None:
        """Write the marks to storage if they have changed. Blocks on storage. Raises OSError."""
        if not self._is_saved:
            persistence.save_json(self._path, self._marks)
            self._is_saved = True
