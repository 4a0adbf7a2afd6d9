"""What desks are told within a second and not at once: much that comes together leaves them time for all else."""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

EVERY_S = 1
_MOST = 100  # rows at once

Key = TypeVar("Key", bound=Hashable)


class Coalescer(Generic[Key]):
    """
    rows  function(key): what is to be told of it, as it is then
    tell  function(row)
    """

    def __init__(self, rows: Callable[[Key], Iterable[dict[str, Any]]], tell: Callable[[dict[str, Any]], None]) -> None:
        self._rows, self._tell = rows, tell
        self._waiting: dict[Key, None] = {}

    def add(self, key: Key) -> None:
        """Have it told, once however often it is added until then."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(EVERY_S, self._flush)
        self._waiting[key] = None

    def _flush(self) -> None:
        told = 0
        while self._waiting and told < _MOST:
            key = next(iter(self._waiting))
            del self._waiting[key]
            for row in self._rows(key):
                self._tell(row)
                told += 1
        if self._waiting:
            asyncio.get_running_loop().call_later(EVERY_S, self._flush)
