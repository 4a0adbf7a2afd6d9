"""Installs an agent image into the slot that is not in use.

    check         everything that can refuse an image; nothing is erased
    invalidate    the slot is invalid: a REMOVED record, and its header sector erased
    begin         both
    write_block   blocks of the content in any order; a block that the flash already holds is not written
    finish        SHA-256 over what lies in flash, then the header sector, then the INSTALLED record

A cut at any point leaves the other slot untouched. The next `begin` continues: `block_digest` tells which blocks are
there already.
"""

import hashlib
from collections import namedtuple

import patrolink_enums as enums
from agent.update.boot_journal import SECTOR_BYTES
from agent.update.boot_records import INSTALLED, REMOVED, SLOT_NAMES, SLOTS, Record
from patrolink_protocol import image_header
from patrolink_protocol.native import const

BLOCK_BYTES = SECTOR_BYTES
DIGEST_BYTES = const(8)  # of a block, to compare it
_PAGE_BYTES = const(256)
_COMPARE_BYTES = const(256)
_EIO = const(5)

# What an image has to fit: names of board and architecture, number of the platform.
Target = namedtuple("Target", ("board", "architecture", "platform"))


class ImageRefusedError(Exception):
    """The image must not be installed; nothing has been erased unless the content was already written.

    Args:
        text: Why, for a person.
        reason: firmware_status.reason.
    """

    def __init__(self, text, reason):
        super().__init__(text)
        self.reason = reason


class Installer:
    """Writes one image at a time.

    Args:
        area: UpdateArea.
        journal: BootJournal.
        verify: Steps to the reason for refusing the signature of the bytes of a header, or to "".
        target: Target of this device.
        running: Number of the slot that runs, or None if the frozen agent or recovery runs.
        floor: Rollback floor that the hub knows of; the higher one of this and the journal's counts.
    """

    def __init__(self, area, journal, verify, target, running=None, floor=0):
        self._area = area
        self._journal = journal
        self._verify = verify
        self._target = target
        self._running = running
        self._floor = floor
        self._header_data = None
        self._checked = None
        self._buffer = memoryview(bytearray(_COMPARE_BYTES))
        self.header = None
        self.slot = None

    @property
    def blocks(self):
        """Number of blocks of the content."""
        return (self.header.size + BLOCK_BYTES - 1) // BLOCK_BYTES

    def begin(self, header_data):
        """Steps: check a header and invalidate the slot that will hold the image.

        Raises:
            ImageRefusedError: the image does not fit, with the reason. Nothing has been erased.
            OSError: the flash does not work.
        """
        yield from self.check(header_data)
        self.invalidate()

    def check(self, header_data):
        """Steps: check a header with its signature.

        Raises:
            ImageRefusedError: the image does not fit, with the reason.
        """
        self.header = None
        data = bytes(header_data[: image_header.HEADER_BYTES])
        header, slot = self._check(data)
        reason = yield from self._verify(data)
        if reason:
            raise ImageRefusedError(reason, enums.FIRMWARE_STATUS_REASON_SIGNATURE)
        self._checked = header, slot, data

    def invalidate(self):
        """Invalidate the slot that will hold the checked image. Raises OSError."""
        header, slot, data = self._checked
        if self._journal.state.slots[slot].install:
            self._journal.append(self._journal.state.slot_record(REMOVED, slot))
        offset = self._area.header_offset(slot)
        if not self._area.is_erased(offset, SECTOR_BYTES):
            self._area.flash.erase(offset)
        self.header, self.slot, self._header_data = header, slot, data

    def block_size(self, index):
        """Return the bytes of a block of the content: BLOCK_BYTES, or less for the last one."""
        return min(BLOCK_BYTES, self.header.size - index * BLOCK_BYTES)

    def block_digest(self, index):
        """Return the first DIGEST_BYTES of the SHA-256 digest of what lies in flash at the place of a block."""
        digest = hashlib.sha256()
        offset = self._area.content_offset(self.slot) + index * BLOCK_BYTES
        end = offset + self.block_size(index)
        while offset < end:
            part = self._buffer[: min(_COMPARE_BYTES, end - offset)]
            self._area.flash.read_into(offset, part)
            digest.update(part)
            offset += len(part)
        return digest.digest()[:DIGEST_BYTES]

    def write_block(self, index, data):
        """Write a block of the content.

        Args:
            index: Number of the block from 0.
            data: Its `block_size(index)` bytes, a memoryview.

        Raises:
            ValueError: there is no such block, or it has another size.
            OSError: the flash does not keep the data.
        """
        if not 0 <= index < self.blocks or len(data) != self.block_size(index):
            raise ValueError("block %d of %d bytes does not fit the image" % (index, len(data)))
        offset = self._area.content_offset(self.slot) + index * BLOCK_BYTES
        if self._holds(offset, data):
            return
        self._area.flash.erase(offset)
        self._program(offset, data)

    def write_part(self, start, data):
        """Write a part of the content that follows the one before.

        Args:
            start: Where it begins; at the beginning of a sector that is erased.
            data: A memoryview.

        Raises:
            ValueError: it ends behind the content.
            OSError: the flash does not keep the data.
        """
        if start + len(data) > self.header.size:
            raise ValueError("more content than the header says")
        offset = self._area.content_offset(self.slot) + start
        while len(data):
            if offset % SECTOR_BYTES == 0:
                self._area.flash.erase(offset)
            part = data[: SECTOR_BYTES - offset % SECTOR_BYTES]
            self._program(offset, part)
            offset += len(part)
            data = data[len(part) :]

    def finish(self):
        """Steps: check the content, write the header and record the installation.

        Raises:
            ImageRefusedError: the content differs from the header.
            OSError: the flash does not keep the data.
        """
        header, slot = self.header, self.slot
        digest = yield from self._area.digest(slot, header.size)
        if digest != header.sha256:
            raise ImageRefusedError(
                "the content in slot %s does not have the SHA-256 of its header" % SLOT_NAMES[slot],
                enums.FIRMWARE_STATUS_REASON_DAMAGED,
            )
        self._program(self._area.header_offset(slot), memoryview(self._header_data))
        install = self._journal.state.last_install + 1
        self._journal.append(Record(INSTALLED, slot, 0, install, header.rollback))
        self.header = None

    def _check(self, data):
        """Return header and slot of an image that fits, except for its signature."""
        try:
            header = image_header.unpack(data)
        except image_header.ImageHeaderError as e:
            raise ImageRefusedError("not an image for this device: %s" % e, enums.FIRMWARE_STATUS_REASON_FORMAT)
        target = self._target
        if header.kind == image_header.PLATFORM:
            raise ImageRefusedError("a platform image; slots hold agent images", enums.FIRMWARE_STATUS_REASON_FORMAT)
        if header.board != target.board:
            raise ImageRefusedError(
                "image for board %s, this is %s" % (header.board, target.board), enums.FIRMWARE_STATUS_REASON_BOARD
            )
        if header.architecture != target.architecture:
            raise ImageRefusedError(
                "image for %s, this board runs %s" % (header.architecture, target.architecture),
                enums.FIRMWARE_STATUS_REASON_ARCHITECTURE,
            )
        if header.minimum_platform > target.platform:
            raise ImageRefusedError(
                "image needs platform %d, this device has %d: flash the platform first"
                % (header.minimum_platform, target.platform),
                enums.FIRMWARE_STATUS_REASON_PLATFORM,
            )
        lowest = max(self._floor, self._journal.state.lowest_rollback())
        if header.rollback < lowest:
            raise ImageRefusedError(
                "rollback number %d is below %d" % (header.rollback, lowest), enums.FIRMWARE_STATUS_REASON_ROLLBACK
            )
        if header.size > self._area.content_max:
            raise ImageRefusedError(
                "content of %d bytes, a slot has %d" % (header.size, self._area.content_max),
                enums.FIRMWARE_STATUS_REASON_NO_SPACE,
            )
        slot = self._free_slot()
        if header.base_sha256 != image_header.NO_BASE:
            base = self._area.header(1 - slot)
            if base is None or base.sha256 != header.base_sha256:
                raise ImageRefusedError(
                    "the base of this delta is not in slot %s" % SLOT_NAMES[1 - slot],
                    enums.FIRMWARE_STATUS_REASON_BASE,
                )
        return header, slot

    def _free_slot(self):
        """Return the slot to overwrite: never the one that runs, nor the newest confirmed one."""
        state = self._journal.state
        running = self._running
        if running is not None and state.slots[running].confirmed:
            return 1 - running
        confirmed = state.confirmed_slot()
        if confirmed is not None:
            if 1 - confirmed == running:
                raise ImageRefusedError(
                    "slot %s is on trial; wait until it is confirmed" % SLOT_NAMES[running],
                    enums.FIRMWARE_STATUS_REASON_BUSY,
                )
            return 1 - confirmed
        if running is not None:
            return 1 - running
        installs = [state.slots[number].install for number in range(SLOTS)]
        return installs.index(min(installs))

    def _holds(self, offset, data):
        """Return whether flash already holds the data."""
        for start in range(0, len(data), _COMPARE_BYTES):
            part = self._buffer[: min(_COMPARE_BYTES, len(data) - start)]
            self._area.flash.read_into(offset + start, part)
            if part != data[start : start + len(part)]:
                return False
        return True

    def _program(self, offset, data):
        """Program data page by page into erased flash, and read the pages back."""
        start = 0
        while start < len(data):
            part = data[start : start + _PAGE_BYTES - (offset + start) % _PAGE_BYTES]
            self._area.flash.program(offset + start, part)
            start += len(part)
        if not self._holds(offset, data):
            raise OSError(_EIO)


class ContentStream:
    """Writes content that comes in order, in parts of any size, such as the output of a delta.

    It needs no buffer: each sector is erased when its first byte comes, also if it holds the same already.

    Args:
        installer: Installer after `begin`.
    """

    def __init__(self, installer):
        self._installer = installer
        self._written = 0

    def write(self, data):
        """Take a part of the content, a memoryview. Raises ValueError behind its end, OSError from the flash."""
        self._installer.write_part(self._written, data)
        self._written += len(data)
