"""Connects a UART of a board to the host and logs the data that passes."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import serial
from patrolink.core.errors import DeviceError
from patrolink.emulator.peripherals.serial_line import Line

BOARD, HOST = 0, 1
BOTH = 2
_CHUNK_BYTES = 512  # at most half of a PTY's buffer: a write to a full PTY would lose data
_SELECT_TIMEOUT_S = 0.02


class _End:
    """A PTY, serial port or socket on one side of the wire. A lossy end drops what it cannot write at once."""

    def __init__(self, fd: int, close: Callable[[], None], lossy: bool = False, name: str = "") -> None:
        self.fd, self.close, self.lossy, self.name = fd, close, lossy, name
        self.pending = bytearray()
        self.closing = False
        self.has_unread: Callable[[], bool] = lambda: False

    def fileno(self) -> int:
        return self.fd


class Wire:
    """Forwards bytes between its two sides until `close`.

    Args:
        log: File to which the data is appended.
        logged_side: BOARD or HOST logs the bytes sent by that side, unchanged. BOTH logs a line with the time for
            each chunk of either side.

    Attributes:
        error: Why a serial port was lost, or None.
    """

    def __init__(self, log: Path, logged_side: int) -> None:
        self._log = log.open("ab", buffering=0)
        self._logged_side = logged_side
        self._ends: tuple[list[_End], list[_End]] = ([], [])
        self._file: int | None = None
        self._next_file: int | None = None
        self.error: str | None = None
        self._start_s = time.monotonic()
        self._stop = False
        self._moving = threading.Lock()  # held while bytes are in the hands of the thread
        self._thread = threading.Thread(target=self._run, daemon=True, name="wire")
        self._thread.start()

    # --- ends -------------------------------------------------------------------------------------------------------

    def pty(self, side: int, lossy: bool = False) -> str:
        """Create a PTY on this side and return its path."""
        return self._add_pty(side, lossy)[1]

    def _add_pty(self, side: int, lossy: bool) -> tuple[_End, str]:
        line = Line()
        end = _End(line.master, line.close, lossy)
        end.has_unread = lambda: bool(select.select([line.slave], [], [], 0)[0])
        self._ends[side].append(end)
        return end, line.path

    def port(self, side: int, path: str, baud: int = 115200) -> serial.Serial:
        """Connect a serial port, or the PTY of an emulated peripheral.

        Raises:
            DeviceError: The port cannot be opened.
        """
        try:
            port = serial.Serial(path, baud, timeout=0, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as e:
            raise DeviceError(f"{path}: cannot be opened ({e}); `patrolink devices` lists the ports") from None
        end = _End(port.fileno(), port.close, name=path)
        end.has_unread = lambda: port.is_open and port.out_waiting > 0
        self._ends[side].append(end)
        return port

    def socket(self, side: int, fd: int, close: Callable[[], None]) -> None:
        """Connect a socket until its peer closes it."""
        self._ends[side].append(_End(fd, close))

    def follow(self, path: Path) -> None:
        """Forward the content of this file, from its start, as output of the board. Replaces an earlier file."""
        self._next_file = os.open(path, os.O_RDONLY)

    @contextlib.contextmanager
    def attach(self) -> Iterator[str]:
        """Yield the path of an additional PTY on the host's side, for a tool."""
        end, path = self._add_pty(HOST, lossy=True)
        try:
            yield path
        finally:
            end.closing = True

    # --- data -------------------------------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Return whether the board has read everything that the host's side has sent."""
        with self._moving:
            if select.select(self._ends[HOST], [], [], 0)[0]:
                return False
            return not any(end.pending or end.has_unread() for end in self._ends[BOARD])

    def _run(self) -> None:
        while not self._stop:
            with self._moving:
                self._close_ends()
            blocked = [any(end.pending for end in side) for side in self._ends]
            readers = [end for side in (BOARD, HOST) if not blocked[1 - side] for end in self._ends[side]]
            writers = [end for side in self._ends for end in side if end.pending]
            readable, writable, _ = select.select(readers, writers, [], _SELECT_TIMEOUT_S)
            with self._moving:
                for end in writable:
                    self._write(end)
                for end in readable:
                    self._read(end)
                while self._file is not None and (data := os.read(self._file, _CHUNK_BYTES)):
                    self._forward(BOARD, data)

    def _close_ends(self) -> None:
        """Close the ends marked `closing`, and the file that `follow` has replaced.

        Only this thread closes them. If another thread closed a descriptor during `select`, the system could reuse
        its number for a different file.
        """
        if self._next_file is not None:
            if self._file is not None:
                os.close(self._file)
            self._file, self._next_file = self._next_file, None
        for side in self._ends:
            for end in [end for end in side if end.closing]:
                side.remove(end)
                end.close()

    def _read(self, end: _End) -> None:
        try:
            data = os.read(end.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            end.closing = True
            if end.name and not self._stop:
                self.error = self.error or f"{end.name} was disconnected"
            return
        self._forward(BOARD if end in self._ends[BOARD] else HOST, data)

    def _forward(self, side: int, data: bytes) -> None:
        if self._logged_side == BOTH:
            sender = "board: " if side == BOARD else "host:  "
            self._log.write(f"{time.monotonic() - self._start_s:9.3f} {sender}{data!r}\n".encode())
        elif self._logged_side == side:
            self._log.write(data)
        for end in self._ends[1 - side]:
            end.pending += data
            self._write(end)

    @staticmethod
    def _write(end: _End) -> None:
        try:
            if select.select([], [end], [], 0)[1]:
                del end.pending[: os.write(end.fd, end.pending[:_CHUNK_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            end.closing = True
        if end.lossy or end.closing:
            end.pending.clear()

    def close(self) -> None:
        """Stop forwarding and close all ends."""
        self._stop = True
        self._thread.join()
        for end in (*self._ends[BOARD], *self._ends[HOST]):
            end.close()
        for fd in (self._file, self._next_file):
            if fd is not None:
                os.close(fd)
        self._log.close()
