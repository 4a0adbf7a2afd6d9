"""The platform of boards that are a process: MicroPython's unix port and CPython on Linux. See hal/contract.md.

Modules that only some configurations need are imported inside functions: on MicroPython each one takes heap.
"""

import os
import select
import time

from hal.common import Clock, Files, Store, battery, randbelow, runtime, tcp_socket  # noqa: F401  # part of the contract
from hal.posix.serial_line import SerialLine, open_unbuffered

FROZEN = False  # the code of the agent is in the heap
IDLE_MS = 20  # longest sleep of the main loop: sockets do not wake it
_BUTTON_MAX_BYTES = 24


class Inputs:
    """The files and sockets that wake the main loop."""

    def __init__(self):
        self._poll = select.poll()
        self._count = 0

    def add(self, file):
        """Let `file` wake the main loop when it can be read."""
        self._poll.register(file, select.POLLIN)
        self._count += 1

    def remove(self, file):
        """Stop waking for `file`."""
        self._poll.unregister(file)
        self._count -= 1

    def wait(self, timeout_ms):
        """Sleep until an input can be read, at most `timeout_ms`."""
        if self._count:
            self._poll.poll(timeout_ms)
        else:
            time.sleep(timeout_ms / 1000)


def Uart(path, now_ms, log, name, inputs):  # noqa: N802  # stands for the class that baremetal boards have
    """Return the line at `path`: a serial device, a PTY, or gpsd://host[:port]."""
    if not path.startswith("gpsd://"):
        return SerialLine(path, now_ms, log, name, inputs)
    from hal.posix.gpsd import Gpsd

    return Gpsd(path, now_ms, log, name, inputs)


class Buttons:
    """The board's buttons as lines on standard input.

    `off` is the power button, `sos` the SOS button, `man-down` the report of a motion sensor. `record` and `mark`
    belong to the camera. `ptt`, `emergency` and `call` are pressed until `ptt-up`, which the end of input implies;
    `group N`, `status N` and `replay` complete push-to-talk.

    Args:
        inputs: Inputs that a button wakes.
        pins: Ignored; baremetal boards need it.
    """

    def __init__(self, inputs, pins):
        self._line = b""
        self._buf = bytearray(1)  # MicroPython would block until a longer buffer is full
        self._poll = None
        self._inputs = inputs
        try:
            self._file = open_unbuffered("/dev/stdin")  # not sys.stdin: the runtimes buffer it differently
        except OSError:
            return
        self._poll = select.poll()
        try:
            self._poll.register(self._file, select.POLLIN)
            inputs.add(self._file)
        except OSError:
            self._poll = None  # standard input is a plain file, which cannot be polled

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
                self._line = (self._line + self._buf)[-_BUTTON_MAX_BYTES:]
            else:
                line, self._line = bytes(self._line.strip()), b""
                return line
        return None


def Pin(path):  # noqa: N802  # stands for the class that baremetal boards have
    """Return a hal.posix.pin.Pin."""
    from hal.posix import pin

    return pin.Pin(path)


def clip_storage(directory):
    """Return the hal.clip_storage.ClipStorage of a directory; CPython writes in the background. Raises OSError."""
    from hal.clip_storage import ClipStorage

    try:
        import threading  # noqa: F401
    except ImportError:  # MicroPython has none; it must not compile `background` either: that takes much of its heap
        return ClipStorage(directory)
    from hal.posix.background import WriteQueue

    return ClipStorage(directory, WriteQueue())


def camera(settings, indicator, now_ms, log, inputs):
    """Return the camera of a configuration (hal.posix.uart_camera.open_camera)."""
    from hal.posix import uart_camera

    return uart_camera.open_camera(settings, indicator, now_ms, log, inputs)


def video():
    """Return the module hal.posix.h264. Raises ImportError where PyAV or OpenCV is missing."""
    from hal.posix import h264

    return h264


def audio():
    """Return the module hal.posix.audio."""
    from hal.posix import audio as module

    return module


class Watchdog:
    """Linux's watchdog device, which resets the board when it is not fed, and that of the service manager.

    Args:
        path: Path of the device (/dev/watchdog), or None for no watchdog.
    """

    def __init__(self, path):
        self._file = open_unbuffered(path, "wb") if path else None
        self._service = None
        if os.getenv("WATCHDOG_USEC"):
            from hal.posix.service_manager import ServiceManager

            self._service = ServiceManager()

    def feed(self):
        """Restart the countdown."""
        if self._file is not None:
            self._file.write(b"\0")
        if self._service is not None:
            self._service.feed()

    def close(self):
        """Stop the watchdog before a planned power-off, with the driver's magic close."""
        if self._file is not None:
            self._file.write(b"V")
            self._file.close()
            self._file = None


def reset():
    """Ask for a reset of the board: end with exit code 5; the parent process starts the agent again."""
    raise SystemExit(5)


def open_flash():
    """Return the flash port of the update area in the folder PATROLINK_SLOTS, or None without one."""
    folder = os.getenv("PATROLINK_SLOTS")
    if not folder:
        return None
    from hal.posix import update_area

    return update_area.FileFlash(update_area.Folder(folder))


def board_counters():
    """Return None: a process has no board counters."""
    return None
