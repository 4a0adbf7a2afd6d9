"""The journal of boot records: two sectors of raw flash, one of them in use.

A sector begins with a record of kind SECTOR_HEADER, whose `install` is the generation of the sector. The valid header
with the highest generation marks the sector in use. Records are appended; nothing is ever written over. A torn record
is skipped. When the sector is full, the state goes into the other sector, whose header is written last: until then
the full sector stays in use.
"""

from agent.update import boot_records
from agent.update.boot_records import RECORD_BYTES, SECTOR_HEADER, BootState, Record
from patrolink_protocol.native import const

SECTOR_BYTES = const(4096)
SECTORS = const(2)
_RECORDS = SECTOR_BYTES // RECORD_BYTES
_EIO = const(5)
_ERASED = b"\xff" * RECORD_BYTES
_COMPACTIONS_MAX = const(3)


class BootJournal:
    """Reads and appends boot records.

    Args:
        flash: Flash port: read_into(offset, buffer), erase(offset) of SECTOR_BYTES, program(offset, data) within 256
            bytes. Its first SECTORS sectors belong to the journal.

    Attributes:
        state: BootState of all records.
        torn: Number of torn records in the sector in use.
        generation: Generation of the sector in use; 0: there is none, the device has no records.
    """

    def __init__(self, flash):
        self._flash = flash
        self._buffer = memoryview(bytearray(RECORD_BYTES))
        self.state = BootState()
        self.torn = 0
        self.generation = 0
        self._sector = SECTORS - 1
        self._next = _RECORDS  # index of the next record; this value: the sector is full
        self._load()

    def append(self, record):
        """Write a record and change the state.

        Raises:
            OSError: the flash does not keep what is written. The state is unchanged.
        """
        data = boot_records.pack(record)
        while self._next < _RECORDS:
            index = self._next
            self._next += 1
            if self._write(self._sector, index, data):
                self.state.apply(record)
                return
        self._compact(record)

    def _load(self):
        for sector in range(SECTORS):
            header = self._read(sector, 0)
            if header is not None and header.kind == SECTOR_HEADER and header.install > self.generation:
                self.generation = header.install
                self._sector = sector
        if not self.generation:
            return
        self._next = 1
        for index in range(1, _RECORDS):
            record = self._read(self._sector, index)
            if record is not None:
                self.state.apply(record)
            elif self._buffer == _ERASED:
                continue  # records follow where a program failed and changed nothing
            else:
                self.torn += 1
            self._next = index + 1

    def _compact(self, record):
        """Write the state with one more record into the other sector."""
        state = BootState()
        for entry in self.state.snapshot():
            state.apply(entry)
        state.apply(record)
        records = state.snapshot()
        sector = (self._sector + 1) % SECTORS
        for _ in range(_COMPACTIONS_MAX):
            if self._write_sector(sector, records):
                self._sector = sector
                self._next = 1 + len(records)
                self.generation += 1
                self.state = state
                self.torn = 0
                return
        raise OSError(_EIO)

    def _write_sector(self, sector, records):
        """Write a whole sector, its header last; return whether the flash keeps it."""
        self._flash.erase(sector * SECTOR_BYTES)
        index = 1
        for record in records:
            if not self._write(sector, index, boot_records.pack(record)):
                return False
            index += 1
        return self._write(sector, 0, boot_records.pack(Record(SECTOR_HEADER, 0, 0, self.generation + 1, 0)))

    def _write(self, sector, index, data):
        """Program a record; return whether it reads back."""
        offset = sector * SECTOR_BYTES + index * RECORD_BYTES
        self._flash.program(offset, data)
        self._flash.read_into(offset, self._buffer)
        return self._buffer == data

    def _read(self, sector, index):
        """Return a record, or None; its bytes are in the buffer."""
        self._flash.read_into(sector * SECTOR_BYTES + index * RECORD_BYTES, self._buffer)
        return boot_records.unpack(self._buffer)
