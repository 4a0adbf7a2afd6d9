"""A folder whose power is cut: what was not synced is lost, in part or whole. For tests of hal.posix.update_area."""

import random

SECTOR = 512  # written as a whole, or damaged as a whole where the power is cut

# What is left of writes and names that were not synced.
KILLED, LOST, SOME, TORN = range(4)  # KILLED: only the process has ended
OUTCOMES = (KILLED, LOST, SOME, TORN)


class PowerCutError(Exception):
    """The power is cut, or the process is killed."""


class _File:
    def __init__(self) -> None:
        self.stored = bytearray()
        self.data = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []


def _put(data: bytearray, offset: int, part: bytes) -> None:
    """Write to a file; a gap becomes zeros."""
    data.extend(bytes(max(0, offset - len(data))))
    data[offset : offset + len(part)] = part


class LossyFolder:
    """Implements hal.posix.update_area.Folder.

    Args:
        rng: Decides what is lost.

    Attributes:
        operations: Number of operations that change something so far.
        left: Operations until PowerCutError; None: never.
        writes: Name and offset of the write of each operation, "" for the others.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._stored: dict[str, _File] = {}
        self._names: dict[str, _File] = {}
        self._unsynced: list[tuple[str, _File, str]] = []  # name, file, and the name that it had before
        self.writes: list[tuple[str, int]] = []
        self.left: int | None = None

    @property
    def operations(self) -> int:
        return len(self.writes)

    def read_into(self, name: str, offset: int, buffer) -> int:
        part = self._names[name].data[offset : offset + len(buffer)] if name in self._names else b""
        buffer[: len(part)] = part
        return len(part)

    def write(self, name: str, offset: int, data) -> None:
        if name not in self._names:
            self._names[name] = _File()
            self._unsynced.append((name, self._names[name], ""))
        file = self._names[name]
        file.unsynced.append((offset, bytes(data)))
        _put(file.data, offset, bytes(data))
        self._count(name, offset)

    def sync(self, name: str) -> None:
        self._count()
        file = self._names[name]
        file.stored, file.unsynced = bytearray(file.data), []

    def rename(self, old: str, new: str) -> None:
        self._names[new] = self._names.pop(old)
        self._unsynced.append((new, self._names[new], old))
        self._count()

    def sync_names(self) -> None:
        self._count()
        self._stored, self._unsynced = dict(self._names), []

    def fail(self, outcome: int) -> None:
        """Let the power fail, or the process end."""
        if outcome == KILLED:
            return
        stored = [change for change in self._unsynced if outcome != LOST and self._rng.random() < 0.5]
        for name, file, old in stored:
            if self._stored.get(old) is file:
                del self._stored[old]
            self._stored[name] = file
        for file in self._stored.values():
            for offset, data in file.unsynced:
                self._keep(file, offset, data, outcome)
            file.data, file.unsynced = bytearray(file.stored), []
        self._names, self._unsynced = dict(self._stored), []

    def _keep(self, file: _File, offset: int, data: bytes, outcome: int) -> None:
        """Store some sectors of a write."""
        start = 0
        while start < len(data) and outcome != LOST:
            end = min(len(data), start + SECTOR - (offset + start) % SECTOR)
            if self._rng.random() < 0.5:
                _put(file.stored, offset + start, data[start:end])
                if outcome == TORN:  # takes what was in the sector before with it
                    sector = (offset + start) // SECTOR * SECTOR
                    size = min(SECTOR, len(file.stored) - sector)
                    _put(file.stored, sector, self._rng.randbytes(size))
            start = end

    def _count(self, name: str = "", offset: int = 0) -> None:
        """Count an operation. Writes and names are changed, but not stored, when the power fails in them."""
        self.writes.append((name, offset))
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise PowerCutError
