"""Durable state of a hub: JSON documents and counters that survive restarts and power cuts. Files have mode 0600."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically and durably.

    Raises:
        OSError: Storage failed. The previous file is intact.
    """
    temporary = path.with_name(path.name + ".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file's bytes, or the entries of a folder, to storage."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        self._bound = self.first

    def reserve(self, number: int) -> None:
        """Ensure that the bound on storage is above a number.

        Raises:
            OSError: Storage failed. The number must not be used.
        """
        if number >= self._bound:
            bound = number + self._block
            save_json(self._path, bound)
            self._bound = bound


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
        """Continue from a lower number, when earlier numbers have lost their meaning."""
        self.next_number = first
        self._bound = first
        self.reserve(first)
