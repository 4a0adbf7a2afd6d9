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


class Files:
    """Files of one directory."""

    def __init__(self, directory):
        self._dir = directory + "/"
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


def clip_storage(directory):
    """Return the hal.storage.Card of a directory. Loaded only where there are clips."""
    from hal import clip_storage as it

    return it.ClipStorage(directory)


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
