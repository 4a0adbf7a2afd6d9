"""An emulated GPS receiver: NMEA on a PTY, in real time and at the baud rate of the line."""

import os
import select
import threading
import time
from collections.abc import Iterable

from patrolink.emulator.peripherals.serial_line import Line

_LONGEST_WAIT_S = 5.0
_READER_TIMEOUT_S = 10.0
_BITS_PER_BYTE = 10  # start bit, eight data bits, stop bit


class GpsReceiver:
    """Plays epochs on a PTY.

    Args:
        epochs: Pairs of time in seconds and bytes.
        speed: Factor to real time; it also multiplies the baud rate.
        baud: Baud rate; None for no pacing.

    Attributes:
        path: Path of the PTY.
        epochs_sent: Number of epochs sent.
        bytes_sent: Number of bytes sent.
        stalled: Whether nobody read the PTY for ten seconds.
    """

    def __init__(self, epochs: Iterable[tuple[float, bytes]], speed: float = 1.0, baud: int | None = None) -> None:
        self._epochs = epochs
        self._speed = speed
        self._byte_s = _BITS_PER_BYTE / (baud * speed) if baud else 0.0
        self._line = Line()
        self.path = self._line.path
        self.epochs_sent = 0
        self.bytes_sent = 0
        self.stalled = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="gps")

    def start(self) -> None:
        """Start playing."""
        self._thread.start()

    @property
    def done(self) -> bool:
        """Return whether every epoch is sent or the receiver gave up."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        due = time.monotonic()
        played = 0.0
        for at, block in self._epochs:
            # A pause in the track stays in its time stamps; it is not waited for in full.
            due = max(due, time.monotonic() - 0.2) + min(at - played, _LONGEST_WAIT_S) / self._speed
            played = at
            if self._stop.wait(max(0.0, due - time.monotonic())) or not self._send(block):
                return
            self.epochs_sent += 1

    def _send(self, block: bytes) -> bool:
        view = memoryview(block)
        deadline = time.monotonic() + _READER_TIMEOUT_S
        while view and not self._stop.is_set():
            # At most half of a PTY's buffer: data written to a full buffer is lost.
            _, writable, _ = select.select([], [self._line.master], [], 0.2)
            written = 0
            if writable:
                try:
                    written = os.write(self._line.master, view[: 512 if not self._byte_s else 64])
                except BlockingIOError:
                    time.sleep(0.002)
                except OSError:
                    return False
            if not written:
                if time.monotonic() > deadline:
                    self.stalled = True
                    return False
                continue
            view = view[written:]
            self.bytes_sent += written
            deadline = time.monotonic() + _READER_TIMEOUT_S
            if self._byte_s:
                time.sleep(written * self._byte_s)
        return not self._stop.is_set()

    def drained(self) -> bool:
        """Return whether the device has read everything."""
        readable, _, _ = select.select([self._line.slave], [], [], 0)
        return not readable

    def close(self) -> None:
        """Stop and remove the PTY, as when a cable is pulled."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._line.close()
