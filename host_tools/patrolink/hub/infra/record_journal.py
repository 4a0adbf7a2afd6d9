"""Durable records by key: each change is appended as one JSON line, and the last line of a key counts.

A change costs one line and one sync, however many records there are. A line that a crash has cut short was not
acknowledged to anybody, and is removed at the next start.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patrolink.core import durable_files
from patrolink.core.errors import UserError
from patrolink.hub.infra import persistence

Key = tuple[str, ...]
Record = dict[str, Any]
_SPARE_LINES = 1000  # superseded lines until the file is written anew


class RecordJournal:
    """The records of one file.

    Args:
        path: The file.

    Attributes:
        records: Current records by key. What storage has refused is among them; see `is_saved`.

    Raises:
        UserError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        data = _read(path)
        end = data.rfind(b"\n") + 1
        self.records, self._lines = _parse(path, data[:end])
        self._is_torn = end < len(data)
        self._unsaved: dict[Key, None] = {}

    @property
    def is_saved(self) -> bool:
        """True if all records are on storage."""
        return not self._unsaved

    def put(self, changes: Mapping[Key, Record | None]) -> None:
        """Change records, durably; None removes one.

        Raises:
            OSError: Storage failed. The records have changed in memory, and the next call writes them.
        """
        for key, record in changes.items():
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record
            self._unsaved[key] = None
        self.flush()

    def flush(self) -> None:
        """Write what storage has refused. Raises OSError if it still does."""
        if self._is_torn or self._lines > 2 * len(self.records) + _SPARE_LINES:
            self._rewrite()
        elif self._unsaved:
            data = b"".join(_line(key, self.records.get(key)) for key in self._unsaved)
            persistence.with_reserve(self._path.parent, lambda: durable_files.append(self._path, data, durable=True))
            self._lines += len(self._unsaved)
        self._unsaved.clear()

    def _rewrite(self) -> None:
        persistence.replace_file(self._path, b"".join(_line(key, record) for key, record in self.records.items()))
        self._lines, self._is_torn = len(self.records), False


def load(path: Path) -> dict[Key, Record]:
    """Return the records of a file that a running hub may be writing; none if it does not exist.

    Raises:
        UserError: The file cannot be read.
    """
    data = _read(path)
    return _parse(path, data[: data.rfind(b"\n") + 1])[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; correct its owner, or run this as the hub's user") from None


def _parse(path: Path, data: bytes) -> tuple[dict[Key, Record], int]:
    """Return the records, and the number of lines."""
    records: dict[Key, Record] = {}
    lines = data.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            key, record = json.loads(line)
            key = tuple(str(part) for part in key)
            if record is None:
                records.pop(key, None)
            else:
                records[key] = dict(record)
        except (ValueError, TypeError):
            raise UserError(f"{path}: line {number} is damaged; restore the file from a backup") from None
    return records, len(lines)


def _line(key: Key, record: Record | None) -> bytes:
    return json.dumps([key, record], separators=(",", ":")).encode() + b"\n"
