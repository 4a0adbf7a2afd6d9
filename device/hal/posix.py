"""The platform of boards that are a process: MicroPython's unix port and CPython on Linux."""

import os
import select
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
            self._start = time.monotonic_ns()

        def now_ms(self):
            return (time.monotonic_ns() - self._start) // 1000000


IDLE_MS = 20  # longest sleep of the main loop: sockets do not wake it
_VTIME, _VMIN = 5, 6  # indices into termios' control characters on Linux


def _raw(fd):
    """No echo, no line discipline, and a read returns at once with what is there: a UART carries bytes.

    MicroPython's readinto goes on until the buffer is full; VMIN = VTIME = 0 is what makes it stop. The ready-made
    setraw of both runtimes would throw away what has come already.
    """
    import termios

    attributes = termios.tcgetattr(fd)
    attributes[0] = attributes[1] = attributes[3] = 0  # input, output and local modes: none
    attributes[6][_VTIME] = attributes[6][_VMIN] = 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _open_unbuffered(path, mode="rb"):
    try:
        return open(path, mode, 0)
    except (TypeError, ValueError):
        return open(path, mode)  # MicroPython takes no buffering argument, and does not buffer


class Inputs:
    """Whatever may wake the main loop."""

    def __init__(self):
        self._poll = select.poll()
        self._count = 0

    def add(self, file):
        self._poll.register(file, select.POLLIN)
        self._count += 1

    def remove(self, file):
        self._poll.unregister(file)
        self._count -= 1

    def wait(self, ms):
        """Sleep until an input has something, for `ms` at most."""
        if self._count:
            self._poll.poll(ms)
        else:
            time.sleep(ms / 1000)


class Uart:
    """A serial device or PTY, read without blocking; opened again when it vanishes and comes back."""

    def __init__(self, path, now_ms, log, name, inputs):
        self._path = path
        self._now_ms = now_ms
        self._log = log
        self._name = name
        self._inputs = inputs
        self._file = None
        self._poll = None
        self._retry_at = 0
        self._told = False

    def _open(self):
        if self._now_ms() < self._retry_at:
            return False
        self._retry_at = self._now_ms() + 1000
        try:
            file = _open_unbuffered(self._path, "r+b")
            _raw(file.fileno())
        except Exception as e:  # OSError, or CPython's termios.error for what is no terminal
            if not self._told:
                self._log("%s: cannot open %s (%s); trying every second" % (self._name, self._path, e))
                self._told = True
            return False
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)
        self._inputs.add(file)
        self._told = False
        return True

    def wait(self, ms):
        """Sleep until this or another input has something, for `ms` at most."""
        self._inputs.wait(ms)

    def readinto(self, buf):
        """Return how many bytes were put into `buf`; 0 when none are there or the line is gone."""
        if self._file is None and not self._open():
            return 0
        if not self._poll.poll(0):
            return 0
        try:
            n = self._file.readinto(buf)
        except OSError:
            n = 0
        if not n:
            self._gone()
        return n or 0

    def write(self, buf):
        """Send; what is written to a line that is gone is lost, as on a wire."""
        if self._file is None and not self._open():
            return
        try:
            self._file.write(buf)
        except OSError:
            self._gone()

    def _gone(self):
        self._log("%s: %s hung up; opening it again" % (self._name, self._path))
        self._poll.unregister(self._file)
        self._inputs.remove(self._file)
        self._file.close()
        self._file = None
        self._retry_at = self._now_ms() + 1000


class Buttons:
    """Standard input as the board's buttons: the line `off` presses power, `sos` the other one."""

    def __init__(self, inputs):
        self._line = b""
        self._buf = bytearray(1)  # MicroPython would wait for a longer one to fill
        self._poll = None
        self._inputs = inputs
        try:
            # A descriptor of its own: the runtimes buffer sys.stdin differently.
            self._file = _open_unbuffered("/dev/stdin")
        except OSError:
            return
        self._poll = select.poll()
        try:
            self._poll.register(self._file, select.POLLIN)
            inputs.add(self._file)
        except OSError:
            self._poll = None  # a plain file presses nothing

    def read(self):
        """Return the name of a button that was pressed, as bytes, or None. End of input is no command."""
        while self._poll is not None and self._poll.poll(0):
            try:
                n = self._file.readinto(self._buf)
            except OSError:
                n = 0
            if not n:
                self._poll = None
                self._inputs.remove(self._file)
            elif self._buf[0] != 10:
                self._line = (self._line + self._buf)[-8:]
            else:
                line, self._line = bytes(self._line.strip()), b""
                return line
        return None


class Pin:
    """An output: a GPIO's `value` file."""

    def __init__(self, path):
        self._path = path

    def set(self, level):
        with open(self._path, "w") as f:
            f.write("1" if level else "0")


class Watchdog:
    """Linux's watchdog device (/dev/watchdog): resets the board when it is not fed. Without a path there is none."""

    def __init__(self, path):
        self._file = _open_unbuffered(path, "wb") if path else None

    def feed(self):
        if self._file is not None:
            self._file.write(b"\0")

    def close(self):
        """The power goes as planned: stop it (the driver's magic close)."""
        if self._file is not None:
            self._file.write(b"V")
            self._file.close()
            self._file = None


def reset():
    """Start the board anew: end, and leave that to whatever started this process."""
    raise SystemExit(5)


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
    """Files of one directory, for the outbox."""

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


def randbelow(n):
    """Return a uniform integer in 0..n-1 (n up to 2^24; the bias of the modulo is under 1 in 256)."""
    return int.from_bytes(os.urandom(4), "big") % n


def runtime():
    """Return the interpreter's name and version."""
    i = sys.implementation
    name = i.name if hasattr(i, "name") else i[0]
    return "%s %s" % (name, ".".join([str(v) for v in list(i.version)[:3]]))


def battery():
    """A process has no battery: unknown."""
    return -(1 << 30)
