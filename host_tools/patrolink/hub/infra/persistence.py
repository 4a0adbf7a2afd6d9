"""What a hub keeps over restarts and power cuts: counters that only grow, and documents. Files are its owner's only."""

import json
import os
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place of what was there, at once and for good; mode 0600."""
    new = path.with_name(path.name + ".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    new.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file's bytes, or the names in a folder, on storage."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_json(path: Path) -> Any:
    """Return a document, None when there is none yet; UserError when it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise UserError(
            f"{path}: cannot be read ({e}); put it back from a backup. Without it devices refuse this hub until "
            "they have new keys"
        ) from None


def save_json(path: Path, document: Any) -> None:
    """Keep a document."""
    replace_file(path, json.dumps(document).encode())


class HighWaterMark:
    """A bound that storage keeps above every number that was used: after a restart one goes on from there.

    first  what to go on from
    """

    def __init__(self, path: Path, block: int, first: int = 0) -> None:
        self._path = path
        self._block = block
        kept = load_json(path)
        if kept is not None and (type(kept) is not int or kept < 0):
            raise UserError(f"{path}: is no number; put it back from a backup")
        self.first: int = first if kept is None else kept
        self._bound = self.first

    def reach(self, number: int) -> None:
        """When this returns storage is ahead of the number."""
        if number >= self._bound:
            self._bound = number + self._block
            save_json(self._path, self._bound)


class PersistentCounter(HighWaterMark):
    """Numbers, each once."""

    def __init__(self, path: Path, block: int, first: int = 0) -> None:
        super().__init__(path, block, first)
        self.next = self.first

    def take(self) -> int:
        """Return the next one."""
        number = self.next
        self.reach(number)
        self.next += 1
        return number

    def restart(self, first: int) -> None:
        """Go on from a lower number: what was used before has lost its meaning."""
        self.next = first
        self._bound = first
        self.reach(first)
