"""The flash port of agent.update.boot_journal on MicroPython's block devices."""

BLOCK_BYTES = 4096
_PAGE_BYTES = 256
_ERASE_BLOCK = 6  # MP_BLOCKDEV_IOCTL_BLOCK_ERASE
_ERASED = b"\xff" * _PAGE_BYTES


class BlockFlash:
    """A block device that programs any number of bytes.

    Args:
        blocks: Block device of the update area.
        slot_bytes: Bytes of a slot.
    """

    def __init__(self, blocks, slot_bytes):
        self._blocks = blocks
        self.slot_bytes = slot_bytes

    def read_into(self, offset, buffer):
        """Fill the buffer."""
        self._blocks.readblocks(offset // BLOCK_BYTES, buffer, offset % BLOCK_BYTES)

    def erase(self, offset):
        """Erase the sector at an offset."""
        self._blocks.ioctl(_ERASE_BLOCK, offset // BLOCK_BYTES)

    def program(self, offset, data):
        """Program erased flash; the data lie in one page."""
        self._blocks.writeblocks(offset // BLOCK_BYTES, data, offset % BLOCK_BYTES)


class PagedFlash(BlockFlash):
    """A block device that programs whole pages from RAM.

    The RP2040 cannot read its flash while it programs, and its boot ROM overruns unless the length is a multiple of a
    page. Bits that are programmed as 1 do not change.

    Args:
        blocks: Block device of the update area.
        slot_bytes: Bytes of a slot.
    """

    def __init__(self, blocks, slot_bytes):
        super().__init__(blocks, slot_bytes)
        self._page = bytearray(_PAGE_BYTES)

    def program(self, offset, data):
        """Program erased flash; the data lie in one page."""
        start = offset % _PAGE_BYTES
        self._page[:] = _ERASED
        self._page[start : start + len(data)] = data
        super().program(offset - start, self._page)
