"""Serial devices and PTYs of a board that is a process."""

import select

_RETRY_MS = 1000
_VTIME, _VMIN = 5, 6  # indices into termios' control characters on Linux


def set_raw_mode(fd, baud_code=0):
    """Switch a terminal to raw mode: no echo, no line discipline, reads return at once with what has arrived.

    VMIN = VTIME = 0 is needed because MicroPython's readinto otherwise blocks until the buffer is full. `setraw` of
    either runtime is not used because it discards bytes that have arrived already.

    Args:
        fd: File descriptor of the terminal.
        baud_code: Linux's code of the baud rate to set, or 0 to leave the rate as it is.

    Raises:
        OSError: MicroPython; CPython raises termios.error. The descriptor is not a terminal.
    """
    import termios  # only here: pipes and sockets do not need it

    attributes = termios.tcgetattr(fd)
    attributes[0] = attributes[1] = attributes[3] = 0  # input, output and local modes
    attributes[6][_VTIME] = attributes[6][_VMIN] = 0
    if baud_code:
        attributes[4] = attributes[5] = baud_code
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def open_unbuffered(path, mode="rb"):
    """Open a file without buffering: each read and write is one system call."""
    try:
        return open(path, mode, 0)
    except (TypeError, ValueError):
        return open(path, mode)  # MicroPython has no buffering argument and does not buffer


class SerialLine:
    """A serial device or PTY, read without blocking. It is reopened when it disappears and comes back.

    Args:
        path: Path of the device.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.
        name: Name of the line in the log.
        inputs: hal Inputs that received bytes wake.
    """

    def __init__(self, path, now_ms, log, name, inputs):
        self._path = path
        self._now_ms = now_ms
        self._log = log
        self._name = name
        self._inputs = inputs
        self._file = None
        self._poll = None
        self._retry_at_ms = 0
        self._fault_logged = False

    def _connect(self):
        """Return the opened line as a raw stream."""
        file = open_unbuffered(self._path, "r+b")
        set_raw_mode(file.fileno())
        return file

    def _open(self):
        if self._now_ms() < self._retry_at_ms:
            return False
        self._retry_at_ms = self._now_ms() + _RETRY_MS
        try:
            file = self._connect()
        except Exception as e:  # OSError, or CPython's termios.error when the path is not a terminal
            self._log_fault("cannot open %s (%s); retrying every second" % (self._path, e))
            return False
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)
        self._inputs.add(file)
        return True

    def _log_fault(self, text):
        """Log a fault once, until bytes arrive again."""
        if not self._fault_logged:
            self._log("%s: %s" % (self._name, text))
            self._fault_logged = True

    def wait(self, timeout_ms):
        """Sleep until this or another input has bytes, at most `timeout_ms`."""
        self._inputs.wait(timeout_ms)

    def readinto(self, buf):
        """Read available bytes into `buf`; return their number, 0 when there are none or the line is closed."""
        if self._file is None and not self._open():
            return 0
        if not self._poll.poll(0):
            return 0
        try:
            n = self._receive(buf)
        except OSError:
            n = 0
        if not n:
            self._close()
            return 0
        self._fault_logged = False
        return n

    def _receive(self, buf):
        return self._file.readinto(buf)

    def write(self, buf):
        """Send bytes. Bytes written to a closed line are lost, as on a wire."""
        if self._file is None and not self._open():
            return
        try:
            self._file.write(buf)
        except OSError:
            self._close()

    def _close(self):
        self._log_fault("%s hung up; reopening it" % self._path)
        self._poll.unregister(self._file)
        self._inputs.remove(self._file)
        self._file.close()
        self._file = None
        self._retry_at_ms = self._now_ms() + _RETRY_MS
