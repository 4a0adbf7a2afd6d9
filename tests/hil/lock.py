"""A board is one run's at a time, on the whole machine."""

import contextlib
import fcntl
import getpass
import os
import re
import tempfile
import time
from pathlib import Path

from patrolink.core.errors import DeadlineError


def _open(path: Path) -> int:
    """Not at once with O_CREAT: that may not open a file of another user's in a shared folder."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(fd, 0o666)
            return fd


class Lock:
    """Held from the constructor to `close`, or to the end of the process, however it ends."""

    def __init__(self, name: str, wait_s: float = 60) -> None:
        """Wait for whoever holds the board `name`; DeadlineError says who that is after `wait_s`."""
        path = Path(tempfile.gettempdir()) / f"patrolink-board-{re.sub('[^A-Za-z0-9_.-]', '_', name)}.lock"
        self._file = os.fdopen(_open(path), "r+", encoding="utf-8", errors="replace")
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = self._file.read().strip() or "a run that does not say who it is"
                    self._file.close()
                    raise DeadlineError(
                        f"board {name} is in use by {holder} ({path}); wait for its end, or end it"
                    ) from None
                time.sleep(0.1)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} of {getpass.getuser()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self._file.flush()

    def close(self) -> None:
        """Let the next one have it."""
        self._file.close()
