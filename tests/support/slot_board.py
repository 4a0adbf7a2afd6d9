"""Agent images in the slots of the emulated board: the device's own code installs them into the file of its chip."""

import hashlib
import mmap
from pathlib import Path

from agent.update.boot_journal import SECTOR_BYTES, BootJournal
from agent.update.boot_records import CONFIRMED
from agent.update.installer import BLOCK_BYTES, Installer, Target
from agent.update.slots import UpdateArea
from compat.steps import run_to_completion
from patrolink.core.boards import Board
from patrolink_protocol import image_header as ih

PLATFORM = 1
ARCHITECTURE = "armv7m"


def accept(data):
    """Steps of a verifier that accepts each signature."""
    yield
    return ""


class ChipFlash:
    """Flash port of the update area in the file of a chip.

    Args:
        path: File of the chip.
        start: Offset of the update area.
        size: Bytes of the update area.
    """

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._start = start
        with path.open("r+b") as file:
            self._chip = mmap.mmap(file.fileno(), start + size)

    def read_into(self, offset, buffer):
        at = self._start + offset
        buffer[:] = self._chip[at : at + len(buffer)]

    def erase(self, offset):
        at = self._start + offset
        self._chip[at : at + SECTOR_BYTES] = b"\xff" * SECTOR_BYTES

    def program(self, offset, data):
        at = self._start + offset
        self._chip[at : at + len(data)] = bytes(
            old & new for old, new in zip(self._chip[at : at + len(data)], data, strict=True)
        )


class SlotBoard:
    """The slots of a board that is switched off.

    Args:
        board: Board with slots.
        chip: File of its flash chip.
    """

    def __init__(self, board: Board, chip: Path) -> None:
        assert board.image is not None and board.update is not None
        self._board = board
        slot_bytes = board.update.slot_kb << 10
        self.flash = ChipFlash(chip, board.image.flash_kb << 10, 2 * SECTOR_BYTES + 2 * slot_bytes)
        self.area = UpdateArea(self.flash, slot_bytes)

    @property
    def journal(self) -> BootJournal:
        """The boot records as they are in flash now."""
        return BootJournal(self.flash)

    def install(self, content: bytes, rollback: int, confirmed: bool = False) -> int:
        """Install an agent image and return its slot."""
        journal, digest = self.journal, hashlib.sha256(content).digest()
        header = ih.ImageHeader(
            *(ih.AGENT, rollback, PLATFORM, len(content), digest, ih.NO_BASE, len(content), digest),
            *(self._board.name, ARCHITECTURE, f"0.{rollback}", ih.NO_KEY, ih.UNSIGNED),
        )
        installer = Installer(self.area, journal, accept, Target(self._board.name, ARCHITECTURE, PLATFORM))
        run_to_completion(installer.begin(ih.pack(header)))
        for index in range(installer.blocks):
            at = index * BLOCK_BYTES
            installer.write_block(index, memoryview(content)[at : at + installer.block_size(index)])
        run_to_completion(installer.finish())
        if confirmed:
            journal.append(journal.state.slot_record(CONFIRMED, installer.slot))
        return installer.slot
