"""Buttons of a testee: a FIFO that takes one name per line, for the stimuli of a profile."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

_CHUNK = 4096
_LINE_MAX = 64


class Buttons:
    """The buttons of a device.

    Args:
        path: The FIFO; created anew.
        press: Called with the name of each button that is pressed.
    """

    def __init__(self, path: Path, press: Callable[[str], None]) -> None:
        self._press = press
        self._line = b""
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # with a writer of ours it never ends

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._fifo

    def poll(self) -> None:
        """Press the buttons whose names have arrived."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._fifo, _CHUNK):
                *lines, self._line = (self._line + data).split(b"\n")
                self._line = self._line[-_LINE_MAX:]
                for line in lines:
                    self._press(line.decode(errors="replace").strip())

    def close(self) -> None:
        """Close the FIFO."""
        os.close(self._fifo)
