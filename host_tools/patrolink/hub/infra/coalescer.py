"""Coalesces changes of many objects into bounded, regular updates, so that bursts of changes do not block the loop."""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

INTERVAL_S = 1
_MAX_ROWS = 100  # in one interval

Key = TypeVar("Key", bound=Hashable)


class Coalescer(Generic[Key]):
    """Emits rows of changed objects within a second, each object once per interval.

    Args:
        rows: Returns the rows that describe an object at the time of the update.
        emit: Called with each row.
    """

    def __init__(self, rows: Callable[[Key], Iterable[dict[str, Any]]], emit: Callable[[dict[str, Any]], None]) -> None:
        self._rows, self._emit = rows, emit
        self._pending: dict[Key, None] = {}

    def add(self, key: Key) -> None:
        """Mark an object as changed."""
        if not self._pending:
            asyncio.get_running_loop().call_later(INTERVAL_S, self._flush)
        self._pending[key] = None

    def _flush(self) -> None:
        emitted = 0
        while self._pending and emitted < _MAX_ROWS:
            key = next(iter(self._pending))
            del self._pending[key]
            for row in self._rows(key):
                self._emit(row)
                emitted += 1
        if self._pending:
            asyncio.get_running_loop().call_later(INTERVAL_S, self._flush)
