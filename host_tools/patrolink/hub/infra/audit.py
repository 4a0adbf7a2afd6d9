"""Audit log of a hub: actions of dispatchers and answers of devices, one JSON object per line, append-only.

An action that cannot be recorded is not carried out (`write`). What must not wait for storage, such as the answer to an
SOS, and what has happened already, is recorded later while storage fails (`defer`, `note`): rows wait in memory, and a
row `deferred` before them states how many they are and how many were lost.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from patrolink.core import durable_files
from patrolink.core.clock import Clock
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.hub.infra.metrics import Metrics

_MAX_LINES_PER_HOUR = 1000  # of one device
_HOUR_MS = 3_600_000
_SYNCED_ACTIONS = ("listen_in", "live_start")  # on storage before they are carried out, even after a power cut
_DEFERRED_BYTES_MAX = 1 << 20  # of rows in memory; notes of devices may use half of it


class AuditLog:
    """The audit log. Only its owner may read the file."""

    def __init__(self, path: Path, clock: Clock, metrics: Metrics) -> None:
        self._path, self._clock, self._metrics = path, clock, metrics
        self._hour, self._lines_of = 0, Counter[str]()
        self._deferred: list[bytes] = []
        self._deferred_bytes = self._lost = 0
        metrics.gauges["audit_deferred"] = self._deferred.__len__

    def write(self, who: str, what: str, **facts: Any) -> None:
        """Record an action before it is carried out.

        Raises:
            UserError: The log cannot be written. The action must not be carried out.
        """
        try:
            self._append(self._line(who, what, facts), what in _SYNCED_ACTIONS)
        except OSError as e:
            raise UserError(
                f"not done: the audit log cannot be written ({e.strerror}); free space on the hub's storage"
            ) from None

    def defer(self, who: str, what: str, **facts: Any) -> None:
        """Record an action that does not wait for storage: now, or as soon as storage works again."""
        self._append_or_keep(self._line(who, what, facts), _DEFERRED_BYTES_MAX)

    def note(self, who: str, what: str, **facts: Any) -> None:
        """Record something that has happened: now, or as soon as storage works again.

        The number of lines per device and hour is limited, so that no device can fill the storage.
        """
        hour = self._clock.unix_ms() // _HOUR_MS
        if hour != self._hour:
            self._hour, self._lines_of = hour, Counter()
        self._lines_of[who] += 1
        if self._lines_of[who] > _MAX_LINES_PER_HOUR:
            self._metrics.counts["audit_left_out"] += 1
            return
        self._append_or_keep(self._line(who, what, facts), _DEFERRED_BYTES_MAX // 2)
        if self._lines_of[who] == _MAX_LINES_PER_HOUR:
            self.defer(who, "more is left out", until=rfc3339((hour + 1) * _HOUR_MS))

    def flush(self) -> None:
        """Write deferred rows, if there are any and storage works again."""
        if self._deferred or self._lost:
            self._append_or_keep(b"", 0)

    def _line(self, who: str, what: str, facts: dict[str, Any]) -> bytes:
        row = {"time": rfc3339(self._clock.unix_ms()), "who": who, "what": what, **facts}
        return json.dumps(row).encode() + b"\n"

    def _append_or_keep(self, line: bytes, bytes_max: int) -> None:
        try:
            self._append(line, durable=False)
        except OSError:
            if self._deferred_bytes + len(line) > bytes_max:
                self._lost += bool(line)
            else:
                self._deferred.append(line)
                self._deferred_bytes += len(line)

    def _append(self, line: bytes, durable: bool) -> None:
        """Append a line after those that were deferred. Raises OSError."""
        lines = [*self._deferred, line]
        if self._deferred or self._lost:
            lines.insert(0, self._line("", "deferred", {"rows": len(self._deferred), "lost": self._lost}))
        try:
            durable_files.append(self._path, b"".join(lines), durable)
        except OSError:
            self._metrics.counts["storage_failed"] += 1
            raise
        self._deferred.clear()
        self._deferred_bytes = self._lost = 0
