"""Microphone and speaker of a board that is a process.

Samples are 16 bits, little-endian, 8000 per second, on a PTY or FIFO. A microphone discards samples that arrived while
it was closed. A speaker takes samples at the time when they are to be played.
"""

import os
import select

from compat.udp import UdpSocket as Udp  # noqa: F401  # part of the contract: hal.audio().Udp
from hal.posix.serial_line import open_unbuffered, set_raw_mode

_UNIT_BYTES = 160  # 10 ms
_STALE_READS_MAX = 1024  # more than a line or a pipe holds; samples read after that are taken to be new
_RETRY_MS = 1000


def _open(path):
    """Open a PTY or FIFO; return (file, whether its reads never block)."""
    file = open_unbuffered(path, "r+b")  # read-write: opening one end of a FIFO would block until the other is open
    if hasattr(os, "set_blocking"):
        os.set_blocking(file.fileno(), False)
    try:
        set_raw_mode(file.fileno())
        return file, True
    except Exception:  # OSError, or CPython's termios.error: the path is a FIFO
        return file, hasattr(os, "set_blocking")


class Microphone:
    """A microphone that is open only while its indicator is on.

    Args:
        path: Path of the PTY or FIFO.
        indicator: hal Pin: set(level), get() -> bool. Samples are refused when it cannot be set or does not read back
            as on.
        inputs: hal Inputs that new samples wake.
        log: Function of one string.

    Attributes:
        buf: The samples of the last `read`. On MicroPython the writer of a FIFO must write whole units of 10 ms,
            because a read blocks until one is complete.
    """

    def __init__(self, path, indicator, inputs, log):
        self._path = path
        self._indicator = indicator
        self._inputs = inputs
        self._log = log
        self._file = None
        self._poll = None
        self.buf = bytearray(_UNIT_BYTES)
        self.close()  # switches the indicator off, which a crash may have left on

    def open(self):
        """Open the microphone and discard stale samples. Returns False, and logs why, when that fails."""
        try:
            self._indicator.set(1)
            if not self._indicator.get():
                raise OSError("the indicator is not on")
            self._file, nonblocking = _open(self._path)
        except OSError as e:
            self._log("microphone: cannot open %s: %s" % (self._path, e))
            self.close()
            return False
        self._poll = None
        if not nonblocking:
            self._poll = select.poll()
            self._poll.register(self._file, select.POLLIN)
        for _ in range(_STALE_READS_MAX):
            if not self.read():
                break
        self._inputs.add(self._file)
        return True

    def read(self):
        """Read new samples into `buf` and return their number of bytes."""
        if self._poll is not None:
            for _ in self._poll.ipoll(0):
                break
            else:
                return 0
        try:
            return self._file.readinto(self.buf) or 0
        except OSError:
            return 0

    def close(self):
        """Close the microphone, then switch its indicator off."""
        if self._file is not None:
            self._inputs.remove(self._file)
            self._file.close()
            self._file = None
        try:
            self._indicator.set(0)
        except OSError as e:
            self._log("microphone: cannot set the indicator: %s" % e)


class Speaker:
    """A speaker. Samples that do not fit into its buffer are lost; a write never blocks.

    Args:
        path: Path of the PTY or FIFO.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.
    """

    def __init__(self, path, now_ms, log):
        self._path = path
        self._now_ms = now_ms
        self._log = log
        self._file = None
        self._poll = select.poll()
        self._retry_at_ms = 0

    def write(self, pcm):
        """Play samples."""
        if self._file is None and not self._open():
            return
        if hasattr(self._poll, "ipoll"):
            for _ in self._poll.ipoll(0):
                break
            else:
                return
        try:
            self._file.write(pcm)
        except OSError as e:
            self._log("speaker: cannot write to %s: %s; reopening it" % (self._path, e))
            self._poll.unregister(self._file)
            self._file.close()
            self._file = None

    def _open(self):
        now_ms = self._now_ms()
        if now_ms < self._retry_at_ms:
            return False
        self._retry_at_ms = now_ms + _RETRY_MS
        try:
            self._file, _ = _open(self._path)
        except OSError as e:
            self._log("speaker: cannot open %s: %s; retrying every second" % (self._path, e))
            return False
        self._poll.register(self._file, select.POLLOUT)
        return True


def codecs(frame_ms):
    """Return the codecs of this board besides A-law, as {RTP payload type: codec}: Opus where PyAV is installed.

    Args:
        frame_ms: Milliseconds of voice in a packet: 20 or 60.
    """
    try:
        from hal.posix import opus
    except ImportError:
        return {}
    return {opus.PAYLOAD_TYPE: opus.Opus(frame_ms)}
