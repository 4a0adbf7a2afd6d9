"""A serial line to a board: every read and write has a deadline, and ends when the operator cancels."""

import threading
import time
from collections.abc import Callable

import serial

from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.flash.records import CancelledError
from patrolink.transport.serial_port import open_port

_LOOK_S = 0.1
_WRITE_S = 10.0


class SerialLink:
    """Bytes to and from a board.

    Args:
        port: Path of the port.
        baud: Bits per second.
        cancel: Set when the operator stops the command.

    Raises:
        DeviceError: The port cannot be opened.
    """

    def __init__(self, port: str, baud: int, cancel: threading.Event) -> None:
        self.port = port
        self._cancel = cancel
        self._serial = open_port(port, baud, _LOOK_S)
        self._serial.write_timeout = _WRITE_S
        self._input = b""

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            DeadlineError: The board does not take them.
            DeviceError: The board is gone.
        """
        if self._cancel.is_set():
            raise CancelledError
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException:
            raise DeadlineError(f"{self.port}: the board takes no data; check its cable, then repeat") from None
        except OSError as e:
            raise self._broken(e) from None

    def read(self, length: int, limit_s: float) -> bytes:
        """Return the next bytes.

        Raises:
            DeadlineError: Fewer came in time; they stay in the input.
        """
        self._fill(lambda data: len(data) >= length, limit_s)
        data, self._input = self._input[:length], self._input[length:]
        return data

    def read_until(self, end: bytes, limit_s: float, *others: bytes) -> bytes:
        """Return the bytes up to `end` or one of `others`, whichever comes first, and that.

        Raises:
            DeadlineError: None came in time; what came stays in the input.
        """
        ends = (end, *others)
        self._fill(lambda data: any(end in data for end in ends), limit_s)
        stop = min(self._input.index(end) + len(end) for end in ends if end in self._input)
        data, self._input = self._input[:stop], self._input[stop:]
        return data

    def ignore_cancel(self) -> None:
        """Let reads and writes end by their deadlines only: for the last words to the board after a cancellation."""
        self._cancel = threading.Event()

    def close(self) -> None:
        """Close the port; may be called twice."""
        self._serial.close()

    def _fill(self, enough: Callable[[bytes], bool], limit_s: float) -> None:
        deadline_s = time.monotonic() + limit_s
        while not enough(self._input):
            if self._cancel.is_set():
                raise CancelledError
            if time.monotonic() > deadline_s:
                raise DeadlineError(
                    f"{self.port}: no answer within {limit_s:g} s; check cable and power, and that the board runs "
                    "MicroPython, then repeat the command"
                )
            try:
                self._input += self._serial.read(max(1, self._serial.in_waiting))
            except (OSError, TypeError) as e:  # pyserial raises TypeError when another thread has closed the port
                raise self._broken(e) from None

    def _broken(self, error: Exception) -> DeviceError:
        return DeviceError(f"{self.port}: the connection broke ({error}); connect the board again, then repeat")
