"""The lock of a running hub in the folder of its state: two hubs with one state would use keys and counters twice."""

import os
import time
from pathlib import Path

from patrolink.core.errors import UserError

SERVICE, VOICE = "hub.lock", "voice.lock"  # each half has one: it may be killed and started again alone
_TRIES, _RETRY_S = 10, 0.05  # `is_held` holds the lock for a moment


class InstanceLock:
    """Held until `close` or the end of the process, however it ends.

    Args:
        folder: Folder of the hub's state.
        name: SERVICE or VOICE.

    Raises:
        UserError: Another hub runs with this state.
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, name: str = SERVICE) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(_TRIES):
            if _lock(self._handle):
                return
            time.sleep(_RETRY_S)
        os.close(self._handle)
        raise UserError(f"another hub runs with the state in {folder}; stop it first, or use another `state`")

    def close(self) -> None:
        """Release the lock."""
        os.close(self._handle)


def is_held(folder: Path) -> bool:
    """Return True if a hub runs with the state in a folder.

    Raises:
        OSError: The file cannot be opened.
    """
    try:
        handle = os.open(folder / SERVICE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    import fcntl  # not on Windows, where a site file can be checked but no hub runs

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
