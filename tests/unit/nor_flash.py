"""A NOR flash in memory whose power is cut in the middle of an operation, for tests on both runtimes."""

from memory_storage import PowerCut
from seeded_random import seeded

SECTOR_BYTES = 4096
PAGE_BYTES = 256

# What an operation that is cut leaves.
UNTOUCHED, PREFIX, RANDOM_BITS, ARBITRARY, COMPLETE = range(5)
TEARS = (UNTOUCHED, PREFIX, RANDOM_BITS, ARBITRARY, COMPLETE)


class NorFlash:
    """Implements the flash port of agent.update.boot_journal.

    Programming clears bits and never sets them; an erase sets all bits of a sector.

    Attributes:
        data: Contents.
        operations: (whether an erase, offset) of each operation so far.
        left: Operations until PowerCut is raised; None: never.
        tear: One of TEARS: what the operation leaves that is cut. An arbitrary program is one with random bits.
        worn: Offsets of sectors that keep nothing that is programmed.
        ignored: Number of the next programs that change nothing, as after a drop of the supply voltage.
        refused: Number of the next programs that raise OSError and change nothing.
    """

    def __init__(self, size, seed=1):
        self.data = bytearray(b"\xff" * size)
        self.operations = []
        self.left = None
        self.tear = UNTOUCHED
        self.worn = ()
        self.ignored = self.refused = 0
        self._below = seeded(seed)

    def read_into(self, offset, buffer):
        assert 0 <= offset and offset + len(buffer) <= len(self.data), offset
        buffer[:] = self.data[offset : offset + len(buffer)]

    def program(self, offset, data):
        assert data and offset // PAGE_BYTES == (offset + len(data) - 1) // PAGE_BYTES, (offset, len(data))
        power_fails = self._count(False, offset)
        for i in range(len(data)):
            if data[i] & ~self.data[offset + i]:
                raise AssertionError("a program sets a bit at %d" % (offset + i))
        if self.refused:
            self.refused -= 1
            raise OSError(5)
        if self.ignored:
            self.ignored -= 1
            return
        if offset - offset % SECTOR_BYTES in self.worn:
            return
        if not power_fails:
            for i in range(len(data)):
                self.data[offset + i] &= data[i]
            return
        self._tear_program(offset, data)
        raise PowerCut()

    def erase(self, offset):
        assert offset % SECTOR_BYTES == 0, offset
        power_fails = self._count(True, offset)
        if not power_fails:
            self.data[offset : offset + SECTOR_BYTES] = b"\xff" * SECTOR_BYTES
            return
        self._tear_erase(offset)
        raise PowerCut()

    def _count(self, is_erase, offset):
        """Count an operation; return whether the power fails in it."""
        self.operations.append((is_erase, offset))
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0

    def _tear_program(self, offset, data):
        complete = len(data) if self.tear == COMPLETE else 0
        if self.tear == PREFIX:
            complete = self._below(len(data))
            self.data[offset + complete] &= data[complete] | self._below(256)
        for i in range(complete):
            self.data[offset + i] &= data[i]
        if self.tear in (RANDOM_BITS, ARBITRARY):
            for i in range(len(data)):
                self.data[offset + i] &= data[i] | self._below(256)

    def _tear_erase(self, offset):
        complete = SECTOR_BYTES if self.tear == COMPLETE else 0
        if self.tear == PREFIX:
            complete = self._below(SECTOR_BYTES)
            self.data[offset + complete] |= self._below(256)
        self.data[offset : offset + complete] = b"\xff" * complete
        if self.tear in (RANDOM_BITS, ARBITRARY):
            for i in range(SECTOR_BYTES):
                old = self.data[offset + i] if self.tear == RANDOM_BITS else 0
                self.data[offset + i] = old | self._below(256)
