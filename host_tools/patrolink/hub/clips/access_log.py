"""The access log of clips: JSON lines, each with the SHA-256 of the line before it, so that changes are detected."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

from patrolink.core import durable_files
from patrolink.core.clock import Clock
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError

_FIRST_HASH = "0" * 64  # the hash in the first line


class LogState(NamedTuple):
    """The number of lines of a log, and the SHA-256 of the last one in hexadecimal."""

    lines: int
    last_hash: str


class AccessLog:
    """The access log of one hub's clips. Only its owner can read it, and only this process writes it.

    Args:
        path: The file; it is created by the first line.
        clock: The hub's clock.

    Raises:
        UserError: The file cannot be read, or a line is not as it was written.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._last_hash = verify_access_log(path).last_hash

    def write(self, who: str, what: str, **facts: Any) -> None:
        """Write a line to storage before the access happens; UserError when that fails, and the access is refused."""
        entry = {"time": rfc3339(self._clock.unix_ms()), "who": who, "what": what, **facts}
        with self._lock:
            line = json.dumps({**entry, "before": self._last_hash}).encode() + b"\n"
            try:
                durable_files.append(self._path, line, durable=True)
            except OSError as e:
                raise UserError(
                    f"access refused: {self._path} cannot be written ({e.strerror}); free some disk space"
                ) from None
            self._last_hash = hashlib.sha256(line).hexdigest()


def verify_access_log(path: Path) -> LogState:
    """Verify the hashes of a log; UserError names the first line that does not follow from the one before it."""
    last_hash, count = _FIRST_HASH, 0
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; give the hub's user permission to read it") from None
    for count, line in enumerate(lines, 1):
        try:
            previous_hash = json.loads(line)["before"] if line.endswith(b"\n") else None
        except (ValueError, KeyError, TypeError):
            previous_hash = None
        if previous_hash != last_hash:
            raise UserError(
                f"{path}: line {count} does not follow from the line before it: a line was changed, removed or cut "
                "off; keep the file as evidence and move it away, then the hub starts a new one"
            )
        last_hash = hashlib.sha256(line).hexdigest()
    return LogState(count, last_hash)
