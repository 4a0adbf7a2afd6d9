"""A Pico on a USB cable: first the drive of its boot ROM, then the console of MicroPython.

Time is emulated time. A chip that has to wait for its host costs no real time.
"""

import struct
import threading

from patrolink.core.errors import DeviceError
from patrolink.emulator.boards.pico.chip import Chip
from patrolink.emulator.boards.pico.console import Console
from patrolink.emulator.boards.pico.mass_storage import BLOCK_BYTES, Drive
from patrolink.emulator.boards.pico.usb_host import CDC_DATA, MASS_STORAGE, UsbHost
from patrolink.flash import raw_repl
from patrolink.flash.link import Link

_INFO_NAME = b"INFO_UF2TXT"
_FILE_BLOCK = 1024  # where the boot ROM's drive gets the blocks of a file; it takes them anywhere
_BLOCKS_PER_WRITE = 8
_PARTITION_AT = 0x1BE + 8  # first block of the first partition, in the master boot record
_ENTRY_BYTES = 32
_RESTART_MS = 1000
_REPL_S = 5.0
_READ_MS = 5


class PicoBoard:
    """The board; the constructor powers it on.

    Args:
        flash: Content of its flash chip; an erased chip leaves the board in its boot ROM.

    Attributes:
        chip: Its chip.
    """

    def __init__(self, flash: bytes = b"") -> None:
        self.chip = Chip(flash)
        self._host = UsbHost(self.chip)
        self._console: Console | None = None
        self._resets = 0
        self._attach()

    @property
    def is_drive(self) -> bool:
        """Whether the board is in its boot ROM."""
        return MASS_STORAGE in self._host.endpoints

    @property
    def console(self) -> Console:
        """The console of MicroPython."""
        if self._console is None:
            raise DeviceError("emulated Pico: no console; the board is in its boot ROM")
        return self._console

    def restart(self, limit_ms: float = _RESTART_MS) -> None:
        """Wait until the board has restarted, and attach it again. Raises DeadlineError."""
        self.chip.wait(lambda: self.chip.resets > self._resets, limit_ms, "restart")
        self._attach()

    def info(self) -> bytes:
        """Return INFO_UF2.TXT of the boot ROM's drive, a FAT16 partition."""
        drive = Drive(self._host)
        (start,) = struct.unpack_from("<I", drive.read(0), _PARTITION_AT)
        boot = drive.read(start)
        cluster_blocks, reserved, tables, entries = struct.unpack_from("<BHBH", boot, 13)
        (table_blocks,) = struct.unpack_from("<H", boot, 22)
        root = start + reserved + tables * table_blocks
        root_blocks = entries * _ENTRY_BYTES // BLOCK_BYTES
        folder = drive.read(root, root_blocks)
        at = folder.index(_INFO_NAME)
        cluster, size = struct.unpack_from("<HI", folder, at + 26)
        first = root + root_blocks + (cluster - 2) * cluster_blocks
        return drive.read(first, -(-size // BLOCK_BYTES))[:size]

    def write_uf2(self, data: bytes, limit_ms: float = _RESTART_MS) -> None:
        """Copy a UF2 file to the boot ROM's drive, and wait for the restart. Raises DeadlineError."""
        drive, step = Drive(self._host), _BLOCKS_PER_WRITE * BLOCK_BYTES
        for at in range(0, len(data), step):
            drive.write(_FILE_BLOCK + at // BLOCK_BYTES, data[at : at + step])
        self.restart(limit_ms)

    def run_program(self, program: str) -> None:
        """Run a Python program in the raw REPL, then restart the board. Raises DeadlineError."""
        link = self.open_link("emulated Pico", 0, threading.Event())
        raw_repl.enter(link, _REPL_S)
        raw_repl.start(link, f"{program}\nimport machine\nmachine.reset()")
        self.restart()

    def open_link(self, port: str, baud: int, cancel: threading.Event) -> "ConsoleLink":
        """Open the console for `patrolink.flash`; a console on USB has no baud rate."""
        return ConsoleLink(self, port, cancel)

    def _attach(self) -> None:
        self._resets = self.chip.resets
        self._host.attach()
        self._console = Console(self.chip, self._host) if CDC_DATA in self._host.endpoints else None


class ConsoleLink(Link):
    """The console of a board for `patrolink.flash`. Its deadlines are in emulated time.

    Args:
        board: The board.
        port: Name in messages.
        cancel: Set when the operator stops the command.
    """

    def __init__(self, board: PicoBoard, port: str, cancel: threading.Event) -> None:
        super().__init__(port, cancel, lambda: board.chip.now_ns / 1e9)
        self._console = board.console

    def write(self, data: bytes) -> None:
        """See `Link.write`."""
        self.check_cancelled()
        self._console.write(data)

    def close(self) -> None:
        """See `Link.close`: the cable stays."""

    def _receive(self) -> bytes:
        return self._console.run(_READ_MS)

    def _remedy(self) -> str:
        return "its firmware does not run"
