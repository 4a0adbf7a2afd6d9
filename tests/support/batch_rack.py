"""Sixteen emulated boards, of which two fail."""

import json

from patrolink.emulator.peripherals import flash

from tests.support.littlefs_files import read_files
from tests.support.repl_boards import ReplBoard

FLASH_KB = 256
BOARDS, SILENT, FULL = 16, 4, 11


class Rack:
    """Emulated boards.

    Args:
        folder: Folder of their chips.
        stack: Switches them off.
    """

    def __init__(self, folder, stack) -> None:
        self._folder, self._stack = folder, stack
        self.boards = {}

    def power_on(self, i: int) -> None:
        """Power a board on, or cut its power and power it on again."""
        if i in self.boards:
            self.boards[i].close()
        self.boards[i] = ReplBoard(self._folder / f"b{i}", f"unit-{i}", flash_kb=FLASH_KB, heap_kb=128)
        self._stack.callback(self.boards[i].close)

    def fill(self, i: int) -> None:
        """Fill the file system of a board that was never switched on."""
        chip = self._folder / f"b{i}" / "flash.bin"
        chip.parent.mkdir()
        flash.provision(chip, FLASH_KB, "/filler", bytes(((FLASH_KB - 8) << 10) - 2048))

    def config(self, i: int) -> dict:
        """Return the configuration of a board."""
        chip = self._folder / f"b{i}" / "flash.bin"
        return json.loads(read_files(chip, FLASH_KB, ["/config.json"])["/config.json"])

    def empty(self, i: int) -> None:
        """Remove the file that fills a board, which is switched off meanwhile."""
        self.boards[i].close()
        flash.provision(self._folder / f"b{i}" / "flash.bin", FLASH_KB, "/filler", b"")

    @property
    def ports(self) -> list[str]:
        return [self.boards[i].path for i in sorted(self.boards)]

    def start(self) -> None:
        """Power all boards on: one that answers nothing, and one whose storage is full."""
        self.fill(FULL)
        for i in range(BOARDS):
            self.power_on(i)
        self.boards[SILENT].suspend()

    def repair(self) -> None:
        """Repair the two boards; they get other ports."""
        self.power_on(SILENT)
        self.empty(FULL)
        self.power_on(FULL)
