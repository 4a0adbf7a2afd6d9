"""What every platform's files and clocks are made of."""

import os
import sys
import time

if hasattr(time, "ticks_ms"):

    class Clock:
        """Monotonic milliseconds since boot that never wrap, from a counter that does."""

        def __init__(self):
            self._last = time.ticks_ms()
            self._now = 0

        def now_ms(self):
            t = time.ticks_ms()
            self._now += time.ticks_diff(t, self._last)
            self._last = t
            return self._now

else:

    class Clock:
        """Monotonic milliseconds since boot."""

        def __init__(self):
            self._start = time.monotonic_ns()  # type: ignore[attr-defined]  # CPython's

        def now_ms(self):
            return (time.monotonic_ns() - self._start) // 1000000  # type: ignore[attr-defined]


class Store:
    """Small records as files of one directory."""

    def __init__(self, directory):
        self._dir = directory
        try:
            os.mkdir(directory)
        except OSError:
            os.stat(directory)  # it must be there, else this tells why not

    def read(self, name):
        """Return a record's bytes, or None when there is none."""
        try:
            with open(self._dir + "/" + name, "rb") as f:
                return f.read()
        except OSError:
            return None

    def write(self, name, data):
        """Replace a record; a torn write leaves a damaged record, never a silent old one."""
        with open(self._dir + "/" + name, "wb") as f:
            f.write(data)
            f.flush()
            if hasattr(os, "fsync"):
                os.fsync(f.fileno())


class Writer:
    """A file that grows; on storage when a call returns, as far as the runtime can see to it.

    behind  bytes and orders taken and not yet carried out: 0 here, see hal.background for where it is not
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
            if not self.fault:
                self._file.flush()
                if hasattr(os, "sync"):
                    os.sync()
        except OSError as e:
            self.fault = str(e) or "it cannot be written"

    def close(self):
        """Have all on storage and the file closed."""
        try:
            if self._file is not None:
                self._file.close()
        except OSError as e:
            self.fault = self.fault or str(e) or "it cannot be closed"
        self._file = None


class Files:
    """Files of one directory, for the outbox and for clips."""

    def __init__(self, directory):
        self._dir = directory + "/"
        self._queue = None  # hal.background's, from the first `open` on
        try:
            os.mkdir(directory)
        except OSError:
            os.stat(directory)  # it must be there, else this tells why not

    def names(self):
        return os.listdir(self._dir)

    def size(self, name):
        return os.stat(self._dir + name)[6]

    def append(self, name, data):
        """Write behind a file's end; on storage when it returns, as far as the runtime can see to it."""
        with open(self._dir + name, "ab") as f:
            f.write(data)
            f.flush()
            if hasattr(os, "fsync"):
                os.fsync(f.fileno())

    def read(self, name, at, buf):
        """Fill `buf` from offset `at` on; return how many bytes there were."""
        with open(self._dir + name, "rb") as f:
            f.seek(at)
            return f.readinto(buf)

    def remove(self, name):
        os.remove(self._dir + name)

    def rename(self, old, new):
        os.rename(self._dir + old, self._dir + new)

    def _behind(self):
        """Return the queue of what is done in the background; None on MicroPython, where nothing is."""
        if self._queue is None and sys.implementation.name == "cpython":
            from hal.background import Queue

            self._queue = Queue()
        return self._queue

    def open(self, name):
        """Return a writer that appends to a file. It raises nothing: its `fault` tells."""
        queue = self._behind()
        if queue is None:
            return Writer(self._dir + name)
        from hal import background

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


def randbelow(n):
    """Return a uniform integer in 0..n-1 (n up to 2^24; the bias of the modulo is under 1 in 256)."""
    return int.from_bytes(os.urandom(4), "big") % n


def runtime():
    """Return the interpreter's name and version."""
    i = sys.implementation
    name = i.name if hasattr(i, "name") else i[0]
    return "%s %s" % (name, ".".join([str(v) for v in list(i.version)[:3]]))


def battery():
    """No gauge: unknown."""
    return -(1 << 30)
