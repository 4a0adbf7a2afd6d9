"""The update area of a Linux camera: boot records and slots as files of one folder. CPython only.

    boot    both boot sectors; each change is a new file that replaces the old one
    a, b    header sector and content of a slot, a zip archive that Python runs in place
    agent.lock, session.lock    see lock()

The system may keep writes to the content in its cache, and lose any of them in a power cut. A write to a header sector
brings the slot to storage; so the record that follows never tells of an image that a power cut takes away.
"""

import fcntl
import os
import time

from agent.update.boot_journal import SECTOR_BYTES, SECTORS
from agent.update.boot_records import SLOT_NAMES

SLOT_BYTES = 4 << 20  # [update] in boards/linux/board.toml
_BOOT = "boot"
_BOOT_NEW = "boot.new"
AGENT_LOCK = "agent.lock"  # of who may change the area: the agent, or a session that installs
SESSION_LOCK = "session.lock"  # of a session that installs: an agent that starts waits for it first
_LOOK_S = 0.01
_BOOT_BYTES = SECTORS * SECTOR_BYTES
_ERASED = b"\xff" * SECTOR_BYTES


class Folder:
    """The system calls that the update area consists of. All raise OSError.

    Args:
        path: Path of the folder.
    """

    def __init__(self, path):
        self._path = path + "/"

    def read_into(self, name, offset, buffer):
        """Fill a buffer from a file; return the number of bytes, 0 if there is no such file."""
        try:
            with open(self._path + name, "rb", 0) as f:
                f.seek(offset)
                return f.readinto(buffer)
        except FileNotFoundError:
            return 0

    def write(self, name, offset, data):
        """Write to a file, which is created if there is none."""
        fd = os.open(self._path + name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while data:
                n = os.pwrite(fd, data, offset)
                data = data[n:]
                offset += n
        finally:
            os.close(fd)

    def sync(self, name):
        """Bring the content of a file to storage, from which the next read then comes."""
        fd = os.open(self._path + name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def rename(self, old, new):
        """Rename a file; an existing one of the new name is replaced."""
        os.rename(self._path + old, self._path + new)

    def sync_names(self):
        """Bring new files and names to storage."""
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class FileFlash:
    """Flash port of agent.update.boot_journal.

    Args:
        storage: Folder.
        slot_bytes: Bytes of a slot with its header sector.
    """

    def __init__(self, storage, slot_bytes=SLOT_BYTES):
        self._storage = storage
        self.slot_bytes = slot_bytes

    def read_into(self, offset, buffer):
        """Fill the buffer. What no file holds is erased."""
        name, at = self._place(offset)
        n = self._storage.read_into(name, at, buffer)
        while n < len(buffer):
            part = _ERASED[: len(buffer) - n]
            buffer[n : n + len(part)] = part
            n += len(part)

    def erase(self, offset):
        """Erase the sector at an offset."""
        self.program(offset, _ERASED)

    def program(self, offset, data):
        """Write data; files need no erase."""
        name, at = self._place(offset)
        if name == _BOOT:
            self._replace_boot(at, data)
            return
        self._storage.write(name, at, data)
        if at < SECTOR_BYTES:
            self._storage.sync(name)
            self._storage.sync_names()

    def _place(self, offset):
        """Return the file at an offset, and the offset in it."""
        if offset < _BOOT_BYTES:
            return _BOOT, offset
        slot, at = divmod(offset - _BOOT_BYTES, self.slot_bytes)
        return SLOT_NAMES[slot], at

    def _replace_boot(self, offset, data):
        sectors = bytearray(_BOOT_BYTES)
        self.read_into(0, sectors)
        sectors[offset : offset + len(data)] = data
        storage = self._storage
        storage.write(_BOOT_NEW, 0, sectors)
        storage.sync(_BOOT_NEW)
        storage.rename(_BOOT_NEW, _BOOT)
        storage.sync_names()


def lock(folder, name, limit_s=None):
    """Wait until no other process holds a lock; return the file that holds it until it is closed or the process ends.

    Without a limit it waits as a service may: its manager ends one that does not get ready.

    Raises:
        BlockingIOError: `limit_s` is over.
    """
    file = open(folder + "/" + name, "w")
    if limit_s is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return file
    end_s = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > end_s:
                file.close()
                raise
        time.sleep(_LOOK_S)


def mount_slot(folder, slot, size):
    """Remove what a longer image has left behind the content of a slot; return the archive for sys.path.

    Python looks for the directory of an archive at the end of the file.
    """
    path = folder + "/" + SLOT_NAMES[slot]
    end = SECTOR_BYTES + size
    if os.stat(path).st_size > end:
        os.truncate(path, end)
    return path
