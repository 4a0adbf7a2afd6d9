"""Boot records: what a device knows about its two slots, and what each record changes in that. No flash access.

    record    kind (u8), slot (u8), attempts (u16), install number (u32), rollback number (u32), CRC-32 of these 12
              bytes (u32); little-endian

A record of a slot counts only if its install number is that of the image that the slot holds: a late record of a
previous image changes nothing.
"""

import binascii
import struct
from collections import namedtuple

from patrolink_protocol.native import const

RECORD_BYTES = const(16)
SLOTS = const(2)
SLOT_NAMES = ("a", "b")

SECTOR_HEADER = const(1)  # first record of a sector, written last; `install` is the generation of the sector
INSTALLED = const(2)  # the slot holds a complete image, which is on trial from now on
ATTEMPT = const(3)  # number of starts of the image that have not ended well; written before the image runs
CONFIRMED = const(4)  # the trial has succeeded
FLOOR = const(5)  # images with a lower rollback number are refused from now on; `install`: last install number
FAILED = const(6)  # the image is not started again
REMOVED = const(7)  # the slot is about to be overwritten

_LAYOUT = "<BBHII"
_CRC_OFFSET = const(12)

Record = namedtuple("Record", ("kind", "slot", "attempts", "install", "rollback"))


def pack(record):
    """Return a record as RECORD_BYTES bytes."""
    data = struct.pack(_LAYOUT, record.kind, record.slot, record.attempts, record.install, record.rollback)
    return data + struct.pack("<I", binascii.crc32(data))


def unpack(data):
    """Return the record in RECORD_BYTES bytes, or None if it is torn, erased or of an unknown slot."""
    if struct.unpack_from("<I", data, _CRC_OFFSET)[0] != binascii.crc32(data[:_CRC_OFFSET]):
        return None
    record = Record(*struct.unpack_from(_LAYOUT, data))
    return record if record.slot < SLOTS else None


class SlotState:
    """What the records tell about one slot.

    Attributes:
        install: Install number of the image; 0: none.
        rollback: Rollback number of the image.
        attempts: Starts of the image that have not ended well.
        confirmed: Whether a trial has succeeded.
        failed: Whether a trial has failed.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        """The slot holds no image."""
        self.install = self.rollback = self.attempts = 0
        self.confirmed = self.failed = False


class BootState:
    """The state that a sequence of records describes.

    Attributes:
        slots: A SlotState for each slot.
        floor: Rollback floor of the device.
        last_install: Highest install number so far.
    """

    def __init__(self):
        self.slots = (SlotState(), SlotState())
        self.floor = 0
        self.last_install = 0

    def apply(self, record):
        """Change the state as a record says. Records of unknown kinds change nothing."""
        kind = record.kind
        slot = self.slots[record.slot]
        if kind == INSTALLED:
            slot.clear()
            slot.install = record.install
            slot.rollback = record.rollback
            self.last_install = max(self.last_install, record.install)
        elif kind == FLOOR:
            self.floor = max(self.floor, record.rollback)
            self.last_install = max(self.last_install, record.install)
        elif slot.install and slot.install == record.install:
            if kind == ATTEMPT:
                slot.attempts = record.attempts
            elif kind == CONFIRMED:
                slot.confirmed = True
                slot.attempts = 0
            elif kind == FAILED:
                slot.failed = True
            elif kind == REMOVED:
                slot.clear()

    def slot_record(self, kind, slot, attempts=0):
        """Return a record of the image that a slot holds now."""
        return Record(kind, slot, attempts, self.slots[slot].install, self.slots[slot].rollback)

    def floor_record(self, rollback):
        """Return the record that raises the rollback floor."""
        return Record(FLOOR, 0, 0, self.last_install, rollback)

    def snapshot(self):
        """Return the shortest list of records that describes this state."""
        records = [self.floor_record(self.floor)]
        for number, slot in enumerate(self.slots):
            if not slot.install:
                continue
            records.append(self.slot_record(INSTALLED, number))
            if slot.confirmed:
                records.append(self.slot_record(CONFIRMED, number))
            if slot.failed:
                records.append(self.slot_record(FAILED, number))
            if slot.attempts:
                records.append(self.slot_record(ATTEMPT, number, slot.attempts))
        return records

    def confirmed_slot(self):
        """Return the number of the confirmed slot with the newest image, or None."""
        best = None
        for number, slot in enumerate(self.slots):
            if slot.confirmed and not slot.failed and (best is None or slot.install > self.slots[best].install):
                best = number
        return best

    def lowest_rollback(self):
        """Return the lowest rollback number that may be installed: the floor, or that of the newest confirmed image."""
        confirmed = self.confirmed_slot()
        return self.floor if confirmed is None else max(self.floor, self.slots[confirmed].rollback)
