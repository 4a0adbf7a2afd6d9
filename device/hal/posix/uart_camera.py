"""Cameras of boards that are a process. Loaded only where there is one."""

from hal.posix.platform import Pin, Tty, open_unbuffered, raw_line

# Linux's codes of rates: MicroPython's termios does not name them all.
_RATES = {9600: 13, 19200: 14, 38400: 15, 57600: 4097, 115200: 4098, 460800: 4100, 921600: 4103}


class Line(Tty):
    """A UART whose rate is chosen as it goes; until it is, it has the one that it was found with."""

    def __init__(self, path, now_ms, log, name, inputs):
        Tty.__init__(self, path, now_ms, log, name, inputs)
        self._code = 0

    def rate(self, baud):
        """From now on the line has this rate."""
        self._code = _RATES[baud]
        if self._file is not None:
            try:
                raw_line(self._file.fileno(), self._code)
            except Exception:  # OSError, or CPython's termios.error: it has just gone
                self._gone()

    def _dial(self):
        file = open_unbuffered(self._path, "r+b")
        raw_line(file.fileno(), self._code)
        return file


def camera(given, now_ms, log, inputs):
    """Return the camera of a configuration: one on a UART, or OpenCV's. ImportError on MicroPython, which has none."""
    if given.get("kind") == "vc0706":
        if not isinstance(given["source"], str):
            raise ValueError("camera: source: give the path of its line")
        from agent.recording import vc0706

        uart = Line(given["source"], now_ms, log, "camera", inputs)
        return vc0706.Camera(uart, Pin(given["indicator"]), now_ms, log, given)
    from hal.posix import opencv_camera as it

    return it.Camera(given, Pin(given["indicator"]), now_ms, log)
