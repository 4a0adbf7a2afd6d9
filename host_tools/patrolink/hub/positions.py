"""Newest position of each device."""

from typing import Any

from patrolink.core.clock import Clock
from patrolink.core.decoder import Row


class PositionTable:
    """Keeps the newest position row of each device, with its time of arrival."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest: dict[str, tuple[Row, int]] = {}

    def update(self, row: Row) -> None:
        """Store a position row. A row without a fix is ignored."""
        if row["lat_deg"] is not None:
            self._newest[row["device"]] = row, self._clock.monotonic_ms()

    def rows(self) -> list[dict[str, Any]]:
        """Return the newest position of every device that has had a fix: the decoder's row, and `age_s`."""
        now_ms = self._clock.monotonic_ms()
        return [{**row, "age_s": (now_ms - arrived_ms) // 1000} for row, arrived_ms in self._newest.values()]
