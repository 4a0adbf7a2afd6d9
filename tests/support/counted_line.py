"""A line between a board's PTY and its users that counts bytes and may be as slow as a UART."""

import contextlib
import os
import pty
import select
import termios
import threading
import time
import tty

_CHUNK_BYTES = 256


class CountedLine:
    """Copies bytes in both directions until `close`.

    Args:
        board_path: PTY of the board.
        baud: Bits per second with 8N1 framing; None: as fast as both ends go.

    Attributes:
        path: PTY for users.
        bytes: Bytes that have passed, in both directions.
    """

    def __init__(self, board_path: str, baud: int | None = None) -> None:
        self._byte_s = 10 / baud if baud else 0.0
        self._board = os.open(board_path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._board)
        self._host, self._slave = pty.openpty()
        tty.setraw(self._slave)
        termios.tcflush(self._slave, termios.TCIOFLUSH)
        self.path = os.ttyname(self._slave)
        self.bytes = 0
        self._stop = threading.Event()
        pairs = ((self._host, self._board), (self._board, self._host))
        self._threads = [threading.Thread(target=self._copy, args=pair) for pair in pairs]
        for thread in self._threads:
            thread.start()

    def _copy(self, source: int, target: int) -> None:
        free_s = 0.0
        while not self._stop.is_set():
            if not select.select([source], [], [], 0.1)[0]:
                continue
            data = os.read(source, _CHUNK_BYTES if self._byte_s else 1 << 16)
            self.bytes += len(data)
            if self._byte_s:
                free_s = max(free_s, time.monotonic()) + len(data) * self._byte_s
                time.sleep(max(0.0, free_s - time.monotonic()))
            while data and not self._stop.is_set():
                if select.select([], [target], [], 0.1)[1]:
                    data = data[os.write(target, data) :]

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for handle in (self._board, self._host, self._slave):
            with contextlib.suppress(OSError):
                os.close(handle)
