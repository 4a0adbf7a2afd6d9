"""The platform of boards that are a process: MicroPython's unix port and CPython on Linux."""

import select
import time

from hal.common import Clock, Files, Store, battery, clip_storage, randbelow, runtime

FROZEN = False  # the agent's code is in the heap
IDLE_MS = 20  # longest sleep of the main loop: sockets do not wake it
_AGAIN_MS = 1000
_LONGEST_BUTTON = 24
_VTIME, _VMIN = 5, 6  # indices into termios' control characters on Linux


def raw_line(fd, code=0):
    """No echo, no line discipline, and a read returns at once with what is there: a UART carries bytes.

    MicroPython's readinto goes on until the buffer is full; VMIN = VTIME = 0 is what makes it stop. The ready-made
    setraw of both runtimes would throw away what has come already.
    """
    import termios

    attributes = termios.tcgetattr(fd)
    attributes[0] = attributes[1] = attributes[3] = 0  # input, output and local modes: none
    attributes[6][_VTIME] = attributes[6][_VMIN] = 0
    if code:
        attributes[4] = attributes[5] = code  # of the line's rate
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def open_unbuffered(path, mode="rb"):
    """Open a file whose reads and writes are the system's."""
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


class Tty:
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

    def _dial(self):
        """Return the line as a raw stream."""
        file = open_unbuffered(self._path, "r+b")
        raw_line(file.fileno())
        return file

    def _open(self):
        if self._now_ms() < self._retry_at:
            return False
        self._retry_at = self._now_ms() + _AGAIN_MS
        try:
            file = self._dial()
        except Exception as e:  # OSError, or CPython's termios.error for what is no terminal
            self._tell("cannot open %s (%s); trying every second" % (self._path, e))
            return False
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)
        self._inputs.add(file)
        return True

    def _tell(self, text):
        """Log what is wrong, once until the line is heard again."""
        if not self._told:
            self._log("%s: %s" % (self._name, text))
            self._told = True

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
            n = self._take(buf)
        except OSError:
            n = 0
        if not n:
            self._gone()
            return 0
        self._told = False
        return n

    def _take(self, buf):
        return self._file.readinto(buf)

    def write(self, buf):
        """Send; what is written to a line that is gone is lost, as on a wire."""
        if self._file is None and not self._open():
            return
        try:
            self._file.write(buf)
        except OSError:
            self._gone()

    def _gone(self):
        self._tell("%s hung up; opening it again" % self._path)
        self._poll.unregister(self._file)
        self._inputs.remove(self._file)
        self._file.close()
        self._file = None
        self._retry_at = self._now_ms() + _AGAIN_MS


def Uart(path, now_ms, log, name, inputs):
    """Return the line at `path`: a serial device, a PTY, or gpsd://host[:port]."""
    if not path.startswith("gpsd://"):
        return Tty(path, now_ms, log, name, inputs)
    from hal.posix.gpsd import Gpsd  # only where it is used: a small heap has no room for it

    return Gpsd(path, now_ms, log, name, inputs)


class Buttons:
    """Standard input as the board's buttons: the line `off` presses power, `sos` the other one.

    Those of a camera: `record` and `mark`. `man-down` is what a sensor says of a wearer who lies and does not move.
    Those of push-to-talk: `ptt`, `emergency` and `call` are down until `ptt-up`, which the end of input is too;
    `group N`, `status N`, `replay`.
    """

    def __init__(self, inputs, pins):
        self._line = b""
        self._buf = bytearray(1)  # MicroPython would wait for a longer one to fill
        self._poll = None
        self._inputs = inputs
        try:
            # A descriptor of its own: the runtimes buffer sys.stdin differently.
            self._file = open_unbuffered("/dev/stdin")
        except OSError:
            return
        self._poll = select.poll()
        try:
            self._poll.register(self._file, select.POLLIN)
            inputs.add(self._file)
        except OSError:
            self._poll = None  # a plain file presses nothing

    def read(self):
        """Return the name of a button that was pressed, as bytes, or None."""
        while self._poll is not None and self._poll.poll(0):
            try:
                n = self._file.readinto(self._buf)
            except OSError:
                n = 0
            if not n:
                self._poll = None
                self._inputs.remove(self._file)
                return b"ptt-up"
            elif self._buf[0] != 10:
                self._line = (self._line + self._buf)[-_LONGEST_BUTTON:]
            else:
                line, self._line = bytes(self._line.strip()), b""
                return line
        return None


def Pin(path):
    """Return a hal.posix.pin.Pin."""
    from hal.posix import pin

    return pin.Pin(path)


def camera(given, now_ms, log, inputs):
    """Return the camera of a configuration: one on a UART, or OpenCV's. ImportError on MicroPython, which has none."""
    from hal.posix import uart_camera

    return uart_camera.camera(given, now_ms, log, inputs)


def video():
    """Return hal.posix.h264: H264, Encoder, Stamped, jpeg. ImportError where PyAV or OpenCV is missing."""
    from hal.posix import h264

    return h264


def sound():
    """Return hal.posix.audio: Microphone, Speaker, Udp and codecs. Loaded only where there is sound."""
    from hal.posix import audio

    return audio


class Watchdog:
    """Linux's watchdog device (/dev/watchdog): resets the board when it is not fed. Without a path there is none."""

    def __init__(self, path):
        self._file = open_unbuffered(path, "wb") if path else None

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


def counts():
    """A process counts nothing about its board."""
    return None
