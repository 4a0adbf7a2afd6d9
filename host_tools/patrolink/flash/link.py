"""A connection to a device: every read has a deadline, and ends when the operator cancels."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from patrolink.core.errors import DeadlineError
from patrolink.flash.records import CancelledError


class Link(ABC):
    """Bytes to and from a device.

    Args:
        port: What the operator named.
        cancel: Set when the operator stops the command.
        now_s: Monotonic clock of all deadlines, seconds.
    """

    def __init__(self, port: str, cancel: threading.Event, now_s: Callable[[], float] = time.monotonic) -> None:
        self.port, self.now_s = port, now_s
        self._cancel = cancel
        self._input = b""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            DeadlineError: The device does not take them.
            DeviceError: The device is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection; may be called twice."""

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
        """Let reads and writes end by their deadlines only: for the last words to the device after a cancellation."""
        self._cancel = threading.Event()

    def check_cancelled(self) -> None:
        """Raise CancelledError if the operator has stopped the command."""
        if self._cancel.is_set():
            raise CancelledError

    @abstractmethod
    def _receive(self) -> bytes:
        """Return what has come, after at most 0.1 s. Raises DeviceError if the device is gone."""

    @abstractmethod
    def _remedy(self) -> str:
        """Return what to do about a device that does not answer."""

    def _fill(self, enough: Callable[[bytes], bool], limit_s: float) -> None:
        deadline_s = self.now_s() + limit_s
        while not enough(self._input):
            self.check_cancelled()
            if self.now_s() > deadline_s:
                raise DeadlineError(f"{self.port}: no answer within {limit_s:g} s; {self._remedy()}")
            self._input += self._receive()
