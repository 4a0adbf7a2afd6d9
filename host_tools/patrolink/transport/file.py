"""Frames out of a capture."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from patrolink.core.capture import CaptureReader, Record
from patrolink.core.errors import UserError


class FileTransport:
    """Replays a capture as fast as it is read; `reader` tells of damage."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self.source = source
        self.reader = CaptureReader(source, name)

    def records(self) -> Iterator[Record | None]:
        yield from self.reader

    def counts(self) -> dict[str, int]:
        return {"damaged": self.reader.damaged, "truncated": self.reader.truncated}

    def close(self) -> None:
        self.source.close()


def open_capture(name: str) -> FileTransport:
    """Return the capture at a path, or - for standard input; UserError when it is none."""
    if name == "-":
        if sys.stdin is None:
            raise UserError("standard input is closed; name a capture, or pipe one in")
        return FileTransport(sys.stdin.buffer, "standard input")
    try:
        source = Path(name).open("rb")  # noqa: SIM115 - the transport closes it
    except (OSError, ValueError) as e:
        raise UserError(f"{name}: {getattr(e, 'strerror', None) or e}; name a capture") from None
    return FileTransport(source, name)
