"""Durable state of a hub: JSON documents and counters that survive restarts and power cuts. Files have mode 0600.

A folder may hold a reserve: a file that only occupies space. When storage is full, the reserve makes room for the
replacement of a file, and takes the room of the replaced file afterwards.
"""

import contextlib
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from patrolink.core import durable_files
from patrolink.core.errors import UserError

RESERVE_FILE = "reserve.bin"
_RESERVE_BYTES = 4 << 20
_RESERVE_STEP_BYTES = 1 << 18
_FULL = (errno.ENOSPC, errno.EDQUOT)


def fill_reserve(folder: Path) -> int:
    """Give the reserve of a folder its size, or what storage permits. Returns the bytes that it has."""
    with contextlib.suppress(OSError), _locked_reserve(folder) as handle:
        return _fill(handle)
    return 0


def with_reserve(folder: Path, write: Callable[[], None]) -> None:
    """Write to a folder; if storage is full, again with the space of the folder's reserve.

    Args:
        folder: The folder.
        write: Writes. It may be called twice.

    Raises:
        OSError: Storage failed.
    """
    try:
        write()
        return
    except OSError as e:
        if e.errno not in _FULL:
            raise
    with _locked_reserve(folder) as handle:
        os.ftruncate(handle, 0)
        try:
            write()
        finally:
            _fill(handle)


@contextlib.contextmanager
def _locked_reserve(folder: Path) -> Iterator[int]:
    """Yield the open reserve. The processes of a hub share it."""
    import fcntl  # not on Windows, where a site file can be checked but no hub runs

    handle = os.open(folder / RESERVE_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _fill(handle: int) -> int:
    size = _RESERVE_BYTES
    while size > os.fstat(handle).st_size:
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError:
            size -= _RESERVE_STEP_BYTES
    return os.fstat(handle).st_size


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically and durably, if necessary with the space of the reserve of its folder.

    Raises:
        OSError: Storage failed. The previous file is intact.
    """
    with_reserve(path.parent, lambda: durable_files.replace(path, data))


def load_json(path: Path) -> Any:
    """Return a JSON document; None if the file does not exist.

    Raises:
        UserError: The file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise UserError(
            f"{path}: cannot be read ({e}); restore it from a backup. Without it, devices reject this hub until "
            "they get new keys"
        ) from None


def save_json(path: Path, document: Any) -> None:
    """Replace a JSON document; see `replace_file`."""
    replace_file(path, json.dumps(document).encode())


def installation_id(path: Path, prefix: str, random_bytes: Callable[[int], bytes]) -> str:
    """Return an id that is created at the first start and never changes: the prefix and 16 hexadecimal digits.

    Raises:
        UserError: The file cannot be read.
        OSError: Storage failed.
    """
    stored = load_json(path)
    if stored is None:
        stored = prefix + random_bytes(8).hex()
        save_json(path, stored)
    return str(stored)


class HighWaterMark:
    """Upper bound of the numbers in use, kept on storage. After a restart, numbers continue from the bound.

    The bound is moved when half of a block is used. If storage fails, the other half can be used meanwhile. An owner
    that must not wait for storage calls `extend` in a thread when it is due, which is before that.

    Args:
        path: File that keeps the bound.
        block: How far the bound is moved at once. A block is lost at each restart.
        first: First number if the file does not exist.

    Attributes:
        first: First number to use after this start.
    """

    def __init__(self, path: Path, block: int, first: int = 0) -> None:
        self._path = path
        self._block = block
        stored = load_json(path)
        if stored is not None and (type(stored) is not int or stored < 0):
            raise UserError(f"{path}: not a whole number from 0; restore it from a backup")
        self.first: int = first if stored is None else stored
        self._bound = self._move_at = self.first
        self._newest = self.first - 1
        self._lock = threading.Lock()  # one writer of the file

    @property
    def is_due(self) -> bool:
        """True if `extend` is due: a quarter of a block is used, or nothing was reserved yet."""
        return self._newest >= self._move_at - self._block // 4

    def extend(self) -> None:
        """Move the bound ahead of the numbers in use. Called in a thread.

        Raises:
            OSError: Storage failed. The numbers up to the bound can be used.
        """
        with self._lock:
            self._move(max(self._newest + 1 + self._block, self._bound))

    def reserve(self, number: int) -> None:
        """Ensure that the bound on storage is above a number.

        Raises:
            OSError: Storage failed. The number must not be used.
        """
        self._newest = max(self._newest, number)
        if number < self._move_at:
            return
        with self._lock:
            if number < self._move_at:  # `extend` has moved the bound meanwhile
                return
            try:
                self._move(number + self._block)
            except OSError:
                if number >= self._bound:
                    raise
                self._move_at = min(self._bound, number + self._block // 64 + 1)  # not at every number

    def _move(self, bound: int) -> None:
        save_json(self._path, bound)
        self._bound, self._move_at = bound, bound - self._block // 2


class PersistentCounter(HighWaterMark):
    """Counter whose numbers never repeat across restarts.

    Attributes:
        next_number: The number that `allocate` returns next.
    """

    def __init__(self, path: Path, block: int, first: int = 0) -> None:
        super().__init__(path, block, first)
        self.next_number = self.first

    def prepare(self, count: int) -> None:
        """Reserve the next `count` numbers with one write.

        Raises:
            OSError: Storage failed.
        """
        if count > 0:
            self.reserve(self.next_number + count - 1)

    def allocate(self) -> int:
        """Return the next number.

        Raises:
            OSError: Storage failed. No number was used.
        """
        number = self.next_number
        self.reserve(number)
        self.next_number += 1
        return number

    def restart(self, first: int) -> None:
        """Continue from a lower number, when earlier numbers have lost their meaning.

        Raises:
            OSError: Storage failed. Nothing has changed.
        """
        with self._lock:
            self._newest = first - 1
            self._move(first + self._block)
        self.next_number = first
