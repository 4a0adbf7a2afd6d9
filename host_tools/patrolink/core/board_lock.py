"""A lock for a board: only one test run on this machine uses it at a time."""

import contextlib
import fcntl
import os
import re
import tempfile
import time
from pathlib import Path

from patrolink.core.errors import DeadlineError
from patrolink.core.posix import user_name


def _open(path: Path) -> int:
    """Open the file, or create it for all users.

    Existing files are opened without O_CREAT: in a sticky world-writable folder, Linux refuses O_CREAT on a file of
    another user (fs.protected_regular). A file that may only be read can be locked too.
    """
    while True:
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            except PermissionError:
                return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(fd, 0o666)
            return fd


def _open_lock(name: str) -> tuple[int, Path]:
    """Return (descriptor, path) of the lock file of a board.

    If another user has put something there that cannot be opened, this user's runs share a file of their own.
    """
    folder = Path(tempfile.gettempdir())
    file_name = f"patrolink-board-{re.sub('[^A-Za-z0-9_.-]', '_', name)}.lock"
    try:
        return _open(folder / file_name), folder / file_name
    except OSError:
        own = folder / f"patrolink-{os.getuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        return _open(own / file_name), own / file_name


class Lock:
    """Holds a board from the constructor until `close` or the end of the process.

    Args:
        name: Name of the board.
        wait_s: How long to wait for another run.

    Raises:
        DeadlineError: Another run still holds the board; the message names it.
    """

    def __init__(self, name: str, wait_s: float = 60) -> None:
        self._fd, path = _open_lock(name)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.read(self._fd, 500).decode(errors="replace").strip() or "an unknown process"
                    os.close(self._fd)
                    raise DeadlineError(
                        f"board {name} is in use by {holder} ({path}); wait until it ends, or end it"
                    ) from None
                time.sleep(0.1)
        user = user_name() or f"user {os.getuid()}"
        holder = f"process {os.getpid()} of {user} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        with contextlib.suppress(OSError):  # a file of another user that may only be read
            os.ftruncate(self._fd, 0)
            os.write(self._fd, holder.encode())

    def close(self) -> None:
        """Release the board."""
        os.close(self._fd)
