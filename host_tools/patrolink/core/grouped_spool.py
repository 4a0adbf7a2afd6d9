"""Texts that arrive mixed and are needed group by group, with bounded memory."""

import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import IO

_PENDING_MAX = 4 << 20  # characters in memory


class GroupedSpool:
    """Keeps texts of many groups in a temporary file; each group's texts are read in the order of their arrival.

    A context manager: its end deletes the file. Memory takes a few bytes per group and for each 4 MB of text.

    Args:
        pending_max: characters that are kept in memory before they are written.
    """

    def __init__(self, pending_max: int = _PENDING_MAX) -> None:
        self._pending_max = pending_max
        self._pending: dict[str, list[str]] = {}
        self._pending_size = 0
        self._blocks: dict[str, array[int]] = {}  # offset and length of the group's pieces of the file
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the object is the context manager

    def __enter__(self) -> "GroupedSpool":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        """Yield the groups in the order of their first texts."""
        return iter(self._blocks)

    def __contains__(self, group: str) -> bool:
        return group in self._blocks

    def append(self, group: str, text: str) -> None:
        """Add a text to a group."""
        if group not in self._blocks:
            self._blocks[group] = array("Q")
        self._pending.setdefault(group, []).append(text)
        self._pending_size += len(text)
        if self._pending_size >= self._pending_max:
            self._write_pending()

    def _write_pending(self) -> None:
        offset = self._file.seek(0, 2)
        for group, texts in self._pending.items():
            data = "".join(texts).encode()
            self._file.write(data)
            self._blocks[group].extend((offset, len(data)))
            offset += len(data)
        self._pending.clear()
        self._pending_size = 0

    def read(self, group: str) -> Iterator[str]:
        """Yield the texts of a group, joined in pieces."""
        blocks = self._blocks[group]
        for i in range(0, len(blocks), 2):
            self._file.seek(blocks[i])
            yield self._file.read(blocks[i + 1]).decode()
        yield "".join(self._pending.get(group, ()))
