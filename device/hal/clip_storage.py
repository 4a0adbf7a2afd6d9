"""Storage of clips: files of one directory that grow without anybody waiting for them, where the runtime can do so."""

import os
import sys

from hal.common import Files


class Writer:
    """A file that grows; on storage when a call returns, as far as the runtime can see to it.

    behind  bytes and orders taken and not yet carried out: 0 here, see hal.posix.background for where it is not
    fault   why it took no more, "" while it does; what is given after that is thrown away
    """

    behind = 0

    def __init__(self, path):
        self._file = None
        self.fault = ""
        try:
            self._file = open(path, "ab")
        except OSError as e:
            self.fault = str(e) or "it cannot be opened"

    def write(self, data):
        """Append `data`."""
        try:
            if not self.fault:
                self._file.write(data)
        except OSError as e:
            self.fault = str(e) or "it cannot be written"

    def sync(self):
        """Have all before this on storage."""
        try:
            if self._file is not None and not self.fault:
                self._file.flush()
                if hasattr(os, "sync"):
                    os.sync()
        except OSError as e:
            self.fault = str(e) or "it cannot be written"

    def close(self):
        """Have all on storage and the file closed."""
        self.sync()
        try:
            if self._file is not None:
                self._file.close()
        except OSError as e:
            self.fault = self.fault or str(e) or "it cannot be closed"
        self._file = None


class ClipStorage(Files):
    """Files that writers append to."""

    def __init__(self, directory):
        Files.__init__(self, directory)
        self._queue = None  # hal.posix.background's, from the first `open` on

    def _behind(self):
        """Return the queue of what is done in the background; None on MicroPython, where nothing is."""
        if self._queue is None and sys.implementation.name == "cpython":
            from hal.posix.background import Queue

            self._queue = Queue()
        return self._queue

    def open(self, name):
        """Return a writer that appends to a file. It raises nothing: its `fault` tells."""
        queue = self._behind()
        if queue is None:
            return Writer(self._dir + name)
        from hal.posix import background

        return background.Writer(queue, self._dir + name)

    def drop(self, name):
        """Remove a file once all that was asked before is done. One that cannot be removed stays."""
        queue = self._behind()
        if queue is None:
            self._drop(name)
        else:
            queue.add(self._drop, name)

    def _drop(self, name):
        try:
            self.remove(name)
        except OSError:
            pass

    def flush(self, ms):
        """Wait until what was given to writers is on storage, `ms` at most."""
        if self._queue is not None:
            self._queue.flush(ms)

    def free_kb(self):
        """Return the free space of the file system, None when it cannot be told."""
        try:
            told = os.statvfs(self._dir)
        except (OSError, AttributeError):
            return None
        return told[1] * told[4] >> 10
