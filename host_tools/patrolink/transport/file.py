"""Frames out of a capture."""

from collections.abc import Iterator
from typing import BinaryIO

from patrolink.capture import CaptureReader, Record


class FileTransport:
    """Replays a capture as fast as it is read; `reader` tells of damage."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self.reader = CaptureReader(source, name)

    def records(self) -> Iterator[Record | None]:
        yield from self.reader

    def close(self) -> None:
        self._source.close()
