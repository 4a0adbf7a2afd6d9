"""What dispatchers did, and what devices answered: a file of JSON lines that is only ever added to."""

import contextlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from patrolink.core.clock import unix_ms
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.hub.infra.metrics import Metrics

_MOST = 1000  # lines of a device in an hour
_AT_ONCE = ("listen_in", "live_start")  # on storage before it is done, power cut or not


class AuditLog:
    """The audit log of one hub, readable by its owner only."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path, self._metrics = path, metrics
        self._hour, self._noted = 0, Counter[str]()  # lines of each device in this hour

    def write(self, who: str, what: str, **facts: Any) -> None:
        """Write down who does what, before it is done; UserError when that fails, and it is not to be done."""
        line = json.dumps({"time": rfc3339(unix_ms()), "who": who, "what": what, **facts}) + "\n"
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                f.write(line)
                if what in _AT_ONCE:
                    f.flush()
                    os.fsync(handle)
        except OSError as e:
            self._metrics.counts["storage_failed"] += 1
            raise UserError(f"not done: the audit log cannot be written ({e.strerror}); free some space") from None

    def note(self, who: str, what: str, **facts: Any) -> None:
        """Write down what has been done: that it cannot be written down is counted, and does not undo it.

        Of one device so many lines an hour: none fills the storage.
        """
        hour = unix_ms() // 3_600_000
        if hour != self._hour:
            self._hour, self._noted = hour, Counter()
        self._noted[who] += 1
        if self._noted[who] > _MOST:
            self._metrics.counts["audit_left_out"] += 1
            return
        with contextlib.suppress(UserError):
            self.write(who, what, **facts)
            if self._noted[who] == _MOST:
                self.write(who, "more is left out", until=rfc3339((hour + 1) * 3_600_000))
