"""A lock for a board: only one test run on this machine uses it at a time."""

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
    """Open the file, or create it for all users.

    Existing files are opened without O_CREAT: in a sticky world-writable folder, Linux refuses O_CREAT on a file of
    another user (fs.protected_regular).
    """
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(fd, 0o666)
            return fd


class Lock:
    """Holds a board from the constructor until `close` or the end of the process.

    Args:
        name: Name of the board.
        wait_s: How long to wait for another run.

    Raises:
        DeadlineError: Another run still holds the board; the message names it.
    """

    def __init__(self, name: str, wait_s: float = 60) -> None:
        path = Path(tempfile.gettempdir()) / f"patrolink-board-{re.sub('[^A-Za-z0-9_.-]', '_', name)}.lock"
        self._file = os.fdopen(_open(path), "r+", encoding="utf-8", errors="replace")
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = self._file.read().strip() or "an unknown process"
                    self._file.close()
                    raise DeadlineError(
                        f"board {name} is in use by {holder} ({path}); wait until it ends, or end it"
                    ) from None
                time.sleep(0.1)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} of {getpass.getuser()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self._file.flush()

    def close(self) -> None:
        """Release the board."""
        self._file.close()
