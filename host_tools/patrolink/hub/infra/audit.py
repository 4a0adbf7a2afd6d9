"""Audit log of a hub: actions of dispatchers and answers of devices, one JSON object per line, append-only."""

import contextlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from patrolink.core.clock import Clock
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.hub.infra.metrics import Metrics

_MAX_LINES_PER_HOUR = 1000  # of one device
_HOUR_MS = 3_600_000
_SYNCED_ACTIONS = ("listen_in", "live_start")  # on storage before they are carried out, even after a power cut


class AuditLog:
    """The audit log. Only its owner may read the file."""

    def __init__(self, path: Path, clock: Clock, metrics: Metrics) -> None:
        self._path, self._clock, self._metrics = path, clock, metrics
        self._hour, self._lines_of = 0, Counter[str]()

    def write(self, who: str, what: str, **facts: Any) -> None:
        """Record an action before it is carried out.

        Raises:
            UserError: The log cannot be written. The action must not be carried out.
        """
        line = json.dumps({"time": rfc3339(self._clock.unix_ms()), "who": who, "what": what, **facts}) + "\n"
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                f.write(line)
                if what in _SYNCED_ACTIONS:
                    f.flush()
                    os.fsync(handle)
        except OSError as e:
            self._metrics.counts["storage_failed"] += 1
            raise UserError(
                f"not done: the audit log cannot be written ({e.strerror}); free space on the hub's storage"
            ) from None

    def note(self, who: str, what: str, **facts: Any) -> None:
        """Record something that has happened. A failure is only counted.

        The number of lines per device and hour is limited, so that no device can fill the storage.
        """
        hour = self._clock.unix_ms() // _HOUR_MS
        if hour != self._hour:
            self._hour, self._lines_of = hour, Counter()
        self._lines_of[who] += 1
        if self._lines_of[who] > _MAX_LINES_PER_HOUR:
            self._metrics.counts["audit_left_out"] += 1
            return
        with contextlib.suppress(UserError):
            self.write(who, what, **facts)
            if self._lines_of[who] == _MAX_LINES_PER_HOUR:
                self.write(who, "more is left out", until=rfc3339((hour + 1) * _HOUR_MS))
