"""Storage of clips: files of one directory that writers append to."""

import os

from hal.common import Files


class Writer:
    """Appends to one file; the calls block until storage has taken the data.

    Attributes:
        behind: Bytes and operations accepted but not yet carried out; always 0 here (see hal.posix.background).
        fault: Why the writer stopped, or "". Data written after a fault is discarded.
    """

    behind = 0

    def __init__(self, path):
        self._file = None
        self.fault = ""
        try:
            self._file = open(path, "ab")
        except OSError as e:
            self.fault = str(e) or "the file cannot be opened"

    def write(self, data):
        """Append `data`."""
        try:
            if not self.fault:
                self._file.write(data)
        except OSError as e:
            self.fault = str(e) or "the file cannot be written"

    def sync(self):
        """Flush all data written so far to storage."""
        try:
            if self._file is not None and not self.fault:
                self._file.flush()
                if hasattr(os, "sync"):
                    os.sync()
        except OSError as e:
            self.fault = str(e) or "the file cannot be written"

    def close(self):
        """Flush all data to storage and close the file."""
        self.sync()
        try:
            if self._file is not None:
                self._file.close()
        except OSError as e:
            self.fault = self.fault or str(e) or "the file cannot be closed"
        self._file = None


class ClipStorage(Files):
    """Files that writers append to.

    Args:
        directory: Path of the directory; it is created when it does not exist.
        queue: hal.posix.background.WriteQueue that carries out writes in a thread, or None to write in the caller.
    """

    def __init__(self, directory, queue=None):
        Files.__init__(self, directory)
        self._queue = queue

    def open(self, name):
        """Return a writer that appends to a file. Errors are reported in its `fault`, never raised."""
        path = self._dir + name
        return Writer(path) if self._queue is None else self._queue.open(path)

    def drop(self, name):
        """Remove a file after all earlier operations. A file that cannot be removed stays."""
        if self._queue is None:
            self._drop(name)
        else:
            self._queue.add(self._drop, name)

    def _drop(self, name):
        try:
            self.remove(name)
        except OSError:
            pass

    def flush(self, timeout_ms):
        """Wait until storage has all data given to writers, at most `timeout_ms`."""
        if self._queue is not None:
            self._queue.flush(timeout_ms)

    def free_kb(self):
        """Return the free space of the file system in KiB, or None when the runtime cannot report it."""
        try:
            stats = os.statvfs(self._dir)
        except (OSError, AttributeError):
            return None
        return stats[1] * stats[4] >> 10
