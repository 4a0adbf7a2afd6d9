"""Files, records and clocks that all platforms share."""

import os
import sys
import time

if hasattr(time, "ticks_ms"):

    class Clock:
        """Monotonic milliseconds since boot, extended from a tick counter that wraps."""

        def __init__(self):
            self._last_ticks = time.ticks_ms()
            self._now_ms = 0

        def now_ms(self):
            """Return milliseconds since boot. Call it at least once per half period of the tick counter."""
            ticks = time.ticks_ms()
            self._now_ms += time.ticks_diff(ticks, self._last_ticks)
            self._last_ticks = ticks
            return self._now_ms

else:

    class Clock:
        """Monotonic milliseconds since boot."""

        def __init__(self):
            self._start_ns = time.monotonic_ns()  # type: ignore[attr-defined]  # CPython's

        def now_ms(self):
            """Return milliseconds since boot."""
            return (time.monotonic_ns() - self._start_ns) // 1000000  # type: ignore[attr-defined]


def _make_directory(path):
    try:
        os.mkdir(path)
    except OSError:
        os.stat(path)  # raises the real error when the directory does not exist either


class Store:
    """Small records, one file each, in one directory.

    Args:
        directory: Path of the directory; it is created when it does not exist.

    Raises:
        OSError: The directory does not exist and cannot be created.
    """

    def __init__(self, directory):
        self._dir = directory
        _make_directory(directory)

    def read(self, name):
        """Return the bytes of a record, or None when it does not exist."""
        try:
            with open(self._dir + "/" + name, "rb") as f:
                return f.read()
        except OSError:
            return None

    def write(self, name, data):
        """Replace a record durably.

        A record of the same length is overwritten in place: that needs no space, so it also works when storage is full.
        A power cut during the call leaves a damaged record, never the previous one: the caller's checksum finds it.
        """
        path = self._dir + "/" + name
        try:
            mode = "r+b" if os.stat(path)[6] == len(data) else "wb"
        except OSError:
            mode = "wb"  # there is none yet
        with open(path, mode) as f:
            f.write(data)
            f.flush()
            if hasattr(os, "fsync"):
                os.fsync(f.fileno())


class Files:
    """Files of one directory. All methods raise OSError.

    Args:
        directory: Path of the directory; it is created when it does not exist.
    """

    def __init__(self, directory):
        self._dir = directory + "/"
        _make_directory(directory)

    def names(self):
        """Return the names of all files."""
        return os.listdir(self._dir)

    def size(self, name):
        """Return the size of a file in bytes."""
        return os.stat(self._dir + name)[6]

    def append(self, name, data):
        """Append to a file, and create it if needed; durable when it returns, where the runtime has fsync."""
        with open(self._dir + name, "ab") as f:
            f.write(data)
            f.flush()
            if hasattr(os, "fsync"):
                os.fsync(f.fileno())

    def read(self, name, offset, buf):
        """Fill `buf` from `offset`; return the number of bytes read."""
        with open(self._dir + name, "rb") as f:
            f.seek(offset)
            return f.readinto(buf)

    def open_stream(self, name):
        """Return a file as a binary stream to read: seek, readinto, close."""
        return open(self._dir + name, "rb")

    def remove(self, name):
        """Remove a file."""
        os.remove(self._dir + name)

    def rename(self, old, new):
        """Rename a file; an existing file of the new name is replaced."""
        os.rename(self._dir + old, self._dir + new)


def tcp_socket():
    """Return the class of TCP sockets of boards with a network stack; see compat.stream."""
    from compat import netsock  # not on boards with a modem: it takes heap

    return netsock.TcpSocket


def randbelow(n):
    """Return a uniform integer in 0..n-1, for n up to 2^24: the bias of the modulo is then below 1 in 256."""
    return int.from_bytes(os.urandom(4), "big") % n


def runtime():
    """Return the name and version of the interpreter."""
    i = sys.implementation
    name = i.name if hasattr(i, "name") else i[0]
    return "%s %s" % (name, ".".join([str(v) for v in list(i.version)[:3]]))


def battery():
    """Return the battery level in per cent; these boards have no gauge, so it is patrolink_enums.UNKNOWN."""
    return -(1 << 30)
