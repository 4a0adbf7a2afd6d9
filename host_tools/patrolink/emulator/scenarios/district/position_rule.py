"""Checks that the positions which dispatchers are shown do not go back in time."""

from collections.abc import Callable
from typing import Any

from patrolink.core.tracks import time_ms

_FUTURE_MS = 60_000  # a fix further ahead has a wrong date


class PositionRule:
    """The rule `position`. Where the hub cannot trust a time, the order of arrival counts.

    Args:
        unix_ms: True time.
        violate: Records a violation: rule and text.

    Attributes:
        is_clock_wrong: Whether the time of day at the hub is wrong.
    """

    def __init__(self, unix_ms: Callable[[], int], violate: Callable[[str, str], None]) -> None:
        self._unix_ms, self._violate = unix_ms, violate
        self.is_clock_wrong = False
        self._newest_ms: dict[
            tuple[str, str], int
        ] = {}  # time of the last fix that was shown, by dispatcher and device

    def reset(self) -> None:
        """Forget what was shown: the hub has started, or a dispatcher has lost messages."""
        self._newest_ms.clear()

    def shown(self, dispatcher: str, row: dict[str, Any]) -> None:
        """A dispatcher was shown a position."""
        key = dispatcher, row["device"]
        fix_ms = time_ms(row["time"]) if row["time"] and not row["date_suspect"] else None
        if self.is_clock_wrong:
            self._newest_ms.pop(key, None)
            return
        if fix_ms is None or fix_ms > self._unix_ms() + _FUTURE_MS:
            return
        if fix_ms < self._newest_ms.get(key, 0):
            self._violate("position", f"{dispatcher} was shown a position of {key[1]} that is older than the last one")
        self._newest_ms[key] = fix_ms
