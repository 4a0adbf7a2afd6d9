"""Who listed, saw, fetched, exported or deleted which clip: JSON lines, each with the SHA-256 of the one before."""

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from patrolink.core.clock import unix_ms
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError

_FIRST = "0" * 64  # stands where the first line names the line before it


class Access:
    """The access log of one hub's clips, readable by its owner only; no other process writes it."""

    def __init__(self, path: Path) -> None:
        """Go on after the last line; UserError when a line is not as it was written, or cannot be read."""
        self._path, self._writing = path, threading.Lock()
        self._last = verify(path)[1]

    def write(self, who: str, what: str, **facts: Any) -> None:
        """Put on storage who does what, before it is done; UserError when that fails, and it is not to be done."""
        said = {"time": rfc3339(unix_ms()), "who": who, "what": what, **facts}
        with self._writing:
            line = json.dumps({**said, "before": self._last}).encode() + b"\n"
            try:
                handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                try:
                    _append(handle, line)
                finally:
                    os.close(handle)
            except OSError as e:
                raise UserError(f"not done: {self._path} cannot be written ({e.strerror}); free some space") from None
            self._last = hashlib.sha256(line).hexdigest()


def _append(handle: int, line: bytes) -> None:
    """All of the line or, when storage is full, nothing of it."""
    size = os.fstat(handle).st_size
    try:
        while line:
            line = line[os.write(handle, line) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


def verify(path: Path) -> tuple[int, str]:
    """How many lines the log has and the hash of the last; UserError names the first line that does not follow."""
    last, count = _FIRST, 0
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror}; give the hub's user the right to read it") from None
    for count, line in enumerate(lines, 1):
        try:
            before = json.loads(line)["before"] if line.endswith(b"\n") else None
        except (ValueError, KeyError, TypeError):
            before = None
        if before != last:
            raise UserError(
                f"{path}: line {count} does not follow the one before it: changed, removed or cut off; "
                "keep the file as evidence, and move it aside for the hub to begin a new one"
            )
        last = hashlib.sha256(line).hexdigest()
    return count, last
