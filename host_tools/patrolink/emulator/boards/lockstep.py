"""A board under QEMU in lock-step with a scheduler; the bytes of its UARTs pass boards/mps2_an385/port/link.c.

The CPU halts while this side answers and instructions take 16 ns each (-icount shift=4), so a run repeats to the byte
and to the nanosecond. `trace` is the SHA-256 of all UART traffic with its times.
"""

import hashlib
import os
import shutil
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from patrolink.core.boards import Board
from patrolink.core.errors import DeviceError
from patrolink.emulator.boards import qemu
from patrolink.emulator.scheduler import Scheduler

CYCLES_PER_MS = 25_000
_HEAD = struct.Struct("<IIQ")
_BOOT = 0xFE
_CHUNK = 256
_FAR_CYCLES = 1 << 32
CAUSES = ("?", "power on", "reset", "watchdog", "deep sleep", "soft reset", "fault")


class Lockstep:
    """Runs an emulated board in lock-step with a scheduler.

    Args:
        board: Board with an image.
        work: Folder for image, FIFOs and straps.
        scheduler: Virtual clock that the board follows.
        limit_s: Wall time of one life in seconds; a board that hangs is killed after it.
        elf: Firmware; None: build that of the board if necessary, and copy it to `work`.

    Attributes:
        on_bytes: UART number to callback for bytes that the board sends.
        on_boot: Callback for each boot with its cause, one of `CAUSES`.
    """

    def __init__(
        self, board: Board, work: Path, scheduler: Scheduler, limit_s: float = 600, elf: Path | None = None
    ) -> None:
        self._board = board
        # Copy the image, so that all lives run the same one even if it is rebuilt meanwhile.
        self._elf = elf or Path(shutil.copy(qemu.build_image(board), work))
        self._work = work
        self._limit_s = limit_s
        self.scheduler = scheduler
        self.on_bytes: dict[int, Callable[[bytes], None]] = {}
        self.on_boot: Callable[[str], None] = lambda cause: None
        self.calls = 0
        self.cycles = 0  # of this life, since the last reset
        self._trace = hashlib.sha256()
        self._base = scheduler.now
        self._rx: deque[tuple[int, bytes]] = deque()
        self._dead = False
        self.on = False
        for name in ("link.in", "link.out"):
            (work / name).unlink(missing_ok=True)
            os.mkfifo(work / name)

    @property
    def trace(self) -> str:
        """Return the hash of the UART traffic so far."""
        return self._trace.hexdigest()

    def deliver(self, uart: int, data: bytes) -> None:
        """Deliver bytes to a UART; dropped while the board is off."""
        if self.on:
            self._rx.extend((uart, data[i : i + _CHUNK]) for i in range(0, len(data), _CHUNK))

    def cut_power(self) -> None:
        """Cut the power: this life ends at the instruction that is being executed."""
        self._dead = True

    def life(self, straps: qemu.Straps) -> int:
        """Power on and run until the power is off.

        Returns:
            Exit status of QEMU: 0 after power-off, 86 at the power cut of the straps, -9 after `cut_power`.

        Raises:
            DeviceError: The board hangs, or QEMU failed.
        """
        self._rx.clear()
        self._dead = False
        self._base = self.scheduler.now
        arguments = [
            *qemu.command(self._board, self._elf, self._work, straps),
            *("-icount", "shift=4,sleep=off"),
        ]
        process = subprocess.Popen(
            arguments, cwd=self._work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        timer = threading.Timer(self._limit_s, process.kill)
        timer.start()
        # Hold both ends open, so that neither side blocks in open() if QEMU never starts.
        keep = [os.open(self._work / name, os.O_RDWR) for name in ("link.in", "link.out")]
        waiter = threading.Thread(target=self._wake_at_end, args=(process, keep[1]), daemon=True)
        waiter.start()
        self.on = True
        try:
            self._serve(keep[0], keep[1])
            if self._dead:
                process.kill()
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            waiter.join()
            self.on = False
            assert process.stderr is not None
            output = process.stderr.read().decode(errors="replace")
            process.stderr.close()
            for fd in keep:
                os.close(fd)
        if code < 0 and not self._dead:
            raise DeviceError(f"the board hangs: no answer within {self._limit_s:g} s of wall time; output:\n{output}")
        if code and code != qemu.POWER_CUT and not self._dead:
            raise DeviceError(f"QEMU ended with status {code}\n{output}")
        return code

    @staticmethod
    def _wake_at_end(process: "subprocess.Popen[bytes]", fd: int) -> None:
        """Write an end marker when QEMU ends: a FIFO that this side holds open has no end of file."""
        process.wait()
        os.write(fd, _HEAD.pack(0xFFFFFFFF, 0, 0))

    def _record(self, direction: bytes, uart: int, data: bytes) -> None:
        self._trace.update(direction + _HEAD.pack(uart, len(data), round(self.scheduler.now * CYCLES_PER_MS)) + data)

    def _serve(self, to_board: int, from_board: int) -> None:
        scheduler = self.scheduler
        buffer = b""
        while True:
            while len(buffer) < _HEAD.size:
                buffer += os.read(from_board, 65536)
            uart, n, self.cycles = _HEAD.unpack_from(buffer)
            if uart == 0xFFFFFFFF:
                return
            while len(buffer) < _HEAD.size + n:
                buffer += os.read(from_board, 65536)
            data, buffer = buffer[_HEAD.size : _HEAD.size + n], buffer[_HEAD.size + n :]
            self.calls += 1
            if uart == _BOOT:
                self._base = scheduler.now - self.cycles / CYCLES_PER_MS
                self._rx.clear()
                self._record(b"B", uart, data)
                self.on_boot(CAUSES[data[0]] if data[0] < len(CAUSES) else str(data[0]))
            scheduler.run_until(self._base + self.cycles / CYCLES_PER_MS)
            if uart < _BOOT:
                self._record(b"T", uart, data)
                if uart in self.on_bytes:
                    self.on_bytes[uart](data)
            if self._dead:
                return
            os.write(to_board, self._answer())

    def _answer(self) -> bytes:
        uart, chunk = 0, b""
        if self._rx:
            uart, chunk = self._rx.popleft()
            self._record(b"R", uart, chunk)
        if self._rx:
            return _HEAD.pack(uart, len(chunk), 0) + chunk
        due = self.scheduler.next_time()
        # Add one cycle, so that rounding cannot place the call before its event.
        call = self.cycles + _FAR_CYCLES if due is None else int((due - self._base) * CYCLES_PER_MS) + 1
        return _HEAD.pack(uart, len(chunk), max(call, self.cycles + 1)) + chunk
