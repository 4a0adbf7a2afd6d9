"""Files that survive power cuts: created, replaced or extended as a whole, or not at all. New ones have mode 0600."""

import os
from pathlib import Path


def create(path: Path, data: bytes) -> None:
    """Write a new file.

    Raises:
        FileExistsError: There is a file of this name. It is intact.
        OSError: Storage failed. There is no file.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    _write(handle, path, data)
    sync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Replace a file.

    Raises:
        OSError: Storage failed. The previous file is intact.
    """
    temporary = path.with_name(path.name + ".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    _write(handle, temporary, data)
    temporary.replace(path)
    sync(path.parent)


def append(path: Path, data: bytes, durable: bool) -> None:
    """Append lines to a file that is created if necessary, all or nothing.

    Args:
        path: The file.
        data: Complete lines.
        durable: Return when they are on storage.

    Raises:
        OSError: Storage failed.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(handle).st_size
        try:
            while data:
                data = data[os.write(handle, data) :]
            if durable:
                os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Force a file's bytes, or the entries of a folder, to storage."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, path: Path, data: bytes) -> None:
    """Write and close an open file; a file that cannot be written is removed, since it takes space."""
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
