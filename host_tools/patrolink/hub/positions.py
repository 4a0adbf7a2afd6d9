"""Newest position of each device, by the time of its fix."""

from typing import Any, NamedTuple

from patrolink.core.clock import Clock
from patrolink.core.decoder import Row
from patrolink.core.tracks import time_ms

_FUTURE_MS = 60_000  # a fix further ahead of the hub's clock has a wrong date


class _Newest(NamedTuple):
    row: Row
    fix_ms: int | None  # unix time; None if the device or the hub does not trust it
    arrived_ms: int  # monotonic time
    trusted_ms: int  # unix time of the newest trusted fix, this one or an earlier one; 0: there was none


class PositionTable:
    """Keeps the newest position row of each device.

    A device that was offline sends its newest fix and its backlog in any order: an older fix replaces no newer one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest: dict[str, _Newest] = {}

    def update(self, row: Row) -> bool:
        """Store a position row if it is the newest of its device. A row without a fix is ignored.

        Returns:
            True if the row was stored.
        """
        if row["lat_deg"] is None:
            return False
        known, fix_ms = self._newest.get(row["device"]), self._fix_ms(row)
        # Without a trusted time on both sides, the order of arrival counts. A fix with a wrong date in between does not
        # let an older one pass; what was trusted while the hub's clock was wrong does not hold back newer ones.
        trusted_ms = known.trusted_ms if known is not None and self._is_trusted(known.trusted_ms) else 0
        if fix_ms is not None:
            if fix_ms < trusted_ms:
                return False
            trusted_ms = fix_ms
        self._newest[row["device"]] = _Newest(row, fix_ms, self._clock.monotonic_ms(), trusted_ms)
        return True

    def _fix_ms(self, row: Row) -> int | None:
        if not row["time"] or row["date_suspect"]:
            return None
        fix_ms = time_ms(row["time"])
        return fix_ms if self._is_trusted(fix_ms) else None

    def _is_trusted(self, fix_ms: int) -> bool:
        return fix_ms <= self._clock.unix_ms() + _FUTURE_MS

    def rows(self) -> list[dict[str, Any]]:
        """Return the newest position of every device that has had a fix: the decoder's row, and `age_s`."""
        return [self.with_age(device) for device in self._newest]

    def with_age(self, device: str) -> dict[str, Any]:
        """Return the newest row of a device with `age_s`: the age of the fix, at least the time since it arrived."""
        newest = self._newest[device]
        age_ms = self._clock.monotonic_ms() - newest.arrived_ms
        if newest.fix_ms is not None:
            age_ms = max(age_ms, self._clock.unix_ms() - newest.fix_ms)
        return {**newest.row, "age_s": age_ms // 1000}
