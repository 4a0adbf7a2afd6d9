"""A wire between a board's UART and what is at its other end, with a log of what passes."""

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
_PIECE = 512  # half a PTY's buffer at most: what is written when it is full would be lost
_TICK_S = 0.02


class _End:
    """One thing plugged in. What a loose one does not take at once is lost, as where nobody listens."""

    def __init__(self, fd: int, close: Callable[[], None], loose: bool = False, name: str = "") -> None:
        self.fd, self.close, self.loose, self.name = fd, close, loose, name
        self.late = bytearray()
        self.leaving = False
        self.unread: Callable[[], bool] = lambda: False

    def fileno(self) -> int:
        return self.fd


class Wire:
    """Carries bytes between its two sides until `close`.

    shows  what `log` gets: the bytes that side BOARD or HOST says as they are, or of BOTH a dated line a piece
    lost   why a port that was plugged in is gone, or None
    """

    def __init__(self, log: Path, shows: int) -> None:
        self._log = log.open("ab", buffering=0)
        self._shows = shows
        self._ends: tuple[list[_End], list[_End]] = ([], [])
        self._file: int | None = None
        self._next: int | None = None
        self.lost: str | None = None
        self._began = time.monotonic()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="wire")
        self._thread.start()

    # --- what is plugged in -----------------------------------------------------------------------------------------

    def pty(self, side: int, loose: bool = False) -> str:
        """Return the path of a new PTY on this side."""
        return self._pty(side, loose)[1]

    def _pty(self, side: int, loose: bool) -> tuple[_End, str]:
        line = Line()
        end = _End(line.master, line.close, loose)
        end.unread = lambda: bool(select.select([line.slave], [], [], 0)[0])
        self._ends[side].append(end)
        return end, line.path

    def port(self, side: int, path: str, baud: int = 115200) -> serial.Serial:
        """Plug in a serial port, or the PTY of something that is emulated; DeviceError when it cannot be had."""
        try:
            it = serial.Serial(path, baud, timeout=0, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as e:
            raise DeviceError(f"{path}: cannot be opened ({e}); `patrolink devices` lists the ports") from None
        end = _End(it.fileno(), it.close, name=path)
        end.unread = lambda: it.is_open and it.out_waiting > 0
        self._ends[side].append(end)
        return it

    def socket(self, side: int, fd: int, close: Callable[[], None]) -> None:
        """Plug in a socket, for as long as it is open."""
        self._ends[side].append(_End(fd, close))

    def follow(self, path: Path) -> None:
        """The board speaks by what is written to this file from its beginning on, in place of an earlier one."""
        self._next = os.open(path, os.O_RDONLY)

    @contextlib.contextmanager
    def attach(self) -> Iterator[str]:
        """Yield the path of one more PTY on the host's side, for a tool."""
        end, path = self._pty(HOST, loose=True)
        try:
            yield path
        finally:
            end.leaving = True

    # --- what passes ------------------------------------------------------------------------------------------------

    def idle(self) -> bool:
        """True when the board has read all that the host's side has said."""
        return not any(end.late or end.unread() for end in list(self._ends[BOARD]))

    def _run(self) -> None:
        while not self._stop:
            self._sweep()
            stuck = [any(end.late for end in side) for side in self._ends]
            readers = [end for side in (BOARD, HOST) if not stuck[1 - side] for end in self._ends[side]]
            writers = [end for side in self._ends for end in side if end.late]
            readable, writable, _ = select.select(readers, writers, [], _TICK_S)
            for end in writable:
                self._push(end)
            for end in readable:
                self._take(end)
            while self._file is not None and (data := os.read(self._file, _PIECE)):
                self._carry(BOARD, data)

    def _sweep(self) -> None:
        """Close what leaves. Here only: a descriptor closed while another thread selects on it may be a stranger's."""
        if self._next is not None:
            if self._file is not None:
                os.close(self._file)
            self._file, self._next = self._next, None
        for side in self._ends:
            for end in [end for end in side if end.leaving]:
                side.remove(end)
                end.close()

    def _take(self, end: _End) -> None:
        try:
            data = os.read(end.fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            end.leaving = True
            if end.name and not self._stop:
                self.lost = self.lost or f"{end.name} went away"
            return
        self._carry(BOARD if end in self._ends[BOARD] else HOST, data)

    def _carry(self, side: int, data: bytes) -> None:
        if self._shows == BOTH:
            way = "board: " if side == BOARD else "host:  "
            self._log.write(f"{time.monotonic() - self._began:9.3f} {way}{data!r}\n".encode())
        elif self._shows == side:
            self._log.write(data)
        for end in self._ends[1 - side]:
            end.late += data
            self._push(end)

    @staticmethod
    def _push(end: _End) -> None:
        try:
            if select.select([], [end], [], 0)[1]:
                del end.late[: os.write(end.fd, end.late[:_PIECE])]
        except BlockingIOError:
            pass
        except OSError:
            end.leaving = True
        if end.loose or end.leaving:
            end.late.clear()

    def close(self) -> None:
        """Unplug everything."""
        self._stop = True
        self._thread.join()
        for end in (*self._ends[BOARD], *self._ends[HOST]):
            end.close()
        for fd in (self._file, self._next):
            if fd is not None:
                os.close(fd)
        self._log.close()
