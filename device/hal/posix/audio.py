"""Microphone and speaker of a board that is a process: 16-bit samples, little-endian, 8000 a second, on a PTY or FIFO.

A microphone's path gives samples while it is open; what it had before is thrown away. A speaker's path takes samples
as they are to be heard.
"""

import os
import select

from compat.udp import UdpSocket as Udp
from hal.posix.platform import open_unbuffered, raw_line

_UNIT = 160  # bytes of 10 ms
_DRAINED = 1024  # reads, after which what comes is taken to be fresh: more than a line or a pipe holds
_AGAIN_MS = 1000


def _open(path):
    """Return (file, True when its reads never wait)."""
    file = open_unbuffered(path, "r+b")  # both ways: a FIFO's open would wait for its other end
    if hasattr(os, "set_blocking"):
        os.set_blocking(file.fileno(), False)
    try:
        raw_line(file.fileno())
        return file, True
    except Exception:  # OSError, or CPython's termios.error: a FIFO
        return file, hasattr(os, "set_blocking")


class Microphone:
    """Open only while the indicator is on: one that can't be set, or does not read back as on, means no microphone.

    indicator  hal Pin: set(level), get() -> bool
    buf        what `read` has read. On MicroPython a FIFO's writer writes whole units of 10 ms: a read waits for one
    """

    def __init__(self, path, indicator, inputs, log):
        self._path = path
        self._indicator = indicator
        self._inputs = inputs
        self._log = log
        self._file = None
        self._poll = None
        self.buf = bytearray(_UNIT)
        self.close()  # a life before this one may have ended suddenly

    def open(self):
        """Open it; False, and a line in the log, when that cannot be done."""
        try:
            self._indicator.set(1)
            if not self._indicator.get():
                raise OSError("the indicator is not on")
            self._file, never_waits = _open(self._path)
        except OSError as e:
            self._log("microphone: %s: %s" % (self._path, e))
            self.close()
            return False
        self._poll = None
        if not never_waits:
            self._poll = select.poll()
            self._poll.register(self._file, select.POLLIN)
        for _ in range(_DRAINED):
            if not self.read():
                break
        self._inputs.add(self._file)
        return True

    def read(self):
        """Return how many bytes are new in `buf`."""
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
        """Close it; then the indicator goes off."""
        if self._file is not None:
            self._inputs.remove(self._file)
            self._file.close()
            self._file = None
        try:
            self._indicator.set(0)
        except OSError as e:
            self._log("microphone: the indicator cannot be set (%s)" % e)


class Speaker:
    """Samples that it has no room for are lost."""

    def __init__(self, path, now_ms, log):
        self._path = path
        self._now_ms = now_ms
        self._log = log
        self._file = None
        self._poll = select.poll()
        self._retry_at = 0

    def write(self, pcm):
        """Let samples be heard."""
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
            self._log("speaker: %s: %s; opening it again" % (self._path, e))
            self._poll.unregister(self._file)
            self._file.close()
            self._file = None

    def _open(self):
        now = self._now_ms()
        if now < self._retry_at:
            return False
        self._retry_at = now + _AGAIN_MS
        try:
            self._file, _ = _open(self._path)
        except OSError as e:
            self._log("speaker: %s: %s" % (self._path, e))
            return False
        self._poll.register(self._file, select.POLLOUT)
        return True


def codecs(frame_ms):
    """Return {RTP payload type: codec} of what this board has beyond A-law: Opus where PyAV is."""
    try:
        from hal.posix import opus
    except ImportError:
        return {}
    return {opus.TYPE: opus.Opus(frame_ms)}
