"""Frames from a capture."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from patrolink.core.capture import CaptureReader, Record
from patrolink.core.errors import UserError


class FileTransport:
    """Replays a capture without delays.

    Args:
        source: the open capture; `close` closes it.
        name: its name for error messages.

    Raises:
        UserError: the source is no capture.
    """

    def __init__(self, source: BinaryIO, name: str) -> None:
        self.source = source
        self._reader = CaptureReader(source, name)

    def records(self) -> Iterator[Record | None]:
        """Yield all records."""
        yield from self._reader

    def counts(self) -> dict[str, int]:
        """Return the number of damaged places, and whether the last record is incomplete."""
        return {"damaged": self._reader.damaged, "truncated": self._reader.truncated}

    def close(self) -> None:
        """Close the capture."""
        self.source.close()


def open_capture(name: str) -> FileTransport:
    """Return the capture at a path, or of standard input for "-".

    Raises:
        UserError: there is no such capture.
    """
    if name == "-":
        if sys.stdin is None:
            raise UserError("standard input is closed; name a capture, or pipe one in")
        return FileTransport(sys.stdin.buffer, "standard input")
    try:
        source = Path(name).open("rb")  # noqa: SIM115 - the transport closes it
    except (OSError, ValueError) as e:
        raise UserError(f"{name}: {getattr(e, 'strerror', None) or e}; name a capture") from None
    logging.getLogger("patrolink.capture").info("reading %s", name)
    return FileTransport(source, name)
