"""The two slots for agent images in the update area of the flash.

    update area   boot sector 0, boot sector 1, slot a, slot b
    slot          a sector whose first 256 bytes are the image header, then the content, which is mapped in place

A slot without its header holds no image.
"""

import hashlib

from agent.update.boot_journal import SECTOR_BYTES, SECTORS
from compat.steps import run_to_completion
from patrolink_protocol import image_header
from patrolink_protocol.native import const

_CHUNK_BYTES = const(512)
_CHUNKS_PER_STEP = const(32)


class SlotContent:
    """What lies at the place of the content of a slot.

    Args:
        flash: Flash port.
        offset: Where it begins.
        size: Its bytes.
    """

    def __init__(self, flash, offset, size):
        self._flash = flash
        self._offset = offset
        self.size = size

    def read_into(self, offset, buffer):
        """Fill a buffer."""
        self._flash.read_into(self._offset + offset, buffer)


class UpdateArea:
    """The slots on a flash port.

    Args:
        flash: Flash port, see boot_journal.BootJournal.
        slot_bytes: Bytes of a slot with its header sector; a multiple of SECTOR_BYTES.
    """

    def __init__(self, flash, slot_bytes):
        self.flash = flash
        self.content_max = slot_bytes - SECTOR_BYTES
        self._slot_bytes = slot_bytes

    def header_offset(self, slot):
        """Return the offset of the header sector of a slot."""
        return SECTORS * SECTOR_BYTES + slot * self._slot_bytes

    def content_offset(self, slot):
        """Return the offset of the content of a slot."""
        return self.header_offset(slot) + SECTOR_BYTES

    def header_data(self, slot):
        """Return the bytes at the place of the image header."""
        data = bytearray(image_header.HEADER_BYTES)
        self.flash.read_into(self.header_offset(slot), data)
        return data

    def header(self, slot):
        """Return the ImageHeader of a slot, or None if it holds no agent image."""
        try:
            header = image_header.unpack(self.header_data(slot))
        except image_header.ImageHeaderError:
            return None
        if header.kind == image_header.PLATFORM or header.size > self.content_max:
            return None
        return header

    def content(self, slot, size):
        """Return the SlotContent of the first `size` bytes of a slot."""
        return SlotContent(self.flash, self.content_offset(slot), size)

    def digest(self, slot, size):
        """Steps to the SHA-256 digest of the first `size` bytes of the content of a slot."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        offset = self.content_offset(slot)
        end = offset + size
        chunks = 0
        while offset < end:
            part = buffer[: min(_CHUNK_BYTES, end - offset)]
            self.flash.read_into(offset, part)
            digest.update(part)
            offset += len(part)
            chunks += 1
            if chunks % _CHUNKS_PER_STEP == 0:
                yield
        return digest.digest()

    def holds(self, slot, rollback, platform):
        """Return whether a slot holds an image with this rollback number that runs on a platform, with intact content.

        It reads the whole slot.
        """
        header = self.header(slot)
        return (
            header is not None
            and header.rollback == rollback
            and header.minimum_platform <= platform
            and run_to_completion(self.digest(slot, header.size)) == header.sha256
        )

    def is_erased(self, offset, size):
        """Return whether flash is erased; `size` is a multiple of 16."""
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        erased = b"\xff" * _CHUNK_BYTES
        end = offset + size
        while offset < end:
            part = buffer[: min(_CHUNK_BYTES, end - offset)]
            self.flash.read_into(offset, part)
            if bytes(part) != erased[: len(part)]:
                return False
            offset += len(part)
        return True
