"""The camera of a board that is a process: one on a UART, or one that OpenCV reads."""

from hal.posix.serial_line import SerialLine, open_unbuffered, set_raw_mode

# Linux's codes of baud rates: MicroPython's termios does not name all of them.
_BAUD_CODES = {9600: 13, 19200: 14, 38400: 15, 57600: 4097, 115200: 4098, 460800: 4100, 921600: 4103}


class CameraLine(SerialLine):
    """A UART with a variable baud rate. It keeps its rate until `set_baud` is called."""

    def __init__(self, path, now_ms, log, name, inputs):
        SerialLine.__init__(self, path, now_ms, log, name, inputs)
        self._baud_code = 0

    def set_baud(self, baud):
        """Change the baud rate."""
        self._baud_code = _BAUD_CODES[baud]
        if self._file is not None:
            try:
                set_raw_mode(self._file.fileno(), self._baud_code)
            except Exception:  # OSError, or CPython's termios.error: the device has disappeared
                self._close()

    def _connect(self):
        file = open_unbuffered(self._path, "r+b")
        set_raw_mode(file.fileno(), self._baud_code)
        return file


def open_camera(settings, indicator, now_ms, log, inputs):
    """Return the camera of a configuration.

    Args:
        settings: The "camera" object of the configuration.
        indicator: hal Pin.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.
        inputs: hal Inputs that the camera's line wakes.

    Raises:
        ValueError: A setting cannot be used.
        ImportError: OpenCV is needed, and the runtime does not have it.
    """
    if settings.get("kind") == "vc0706":
        if not isinstance(settings["source"], str):
            raise ValueError("camera: source must be the path of the camera's serial line")
        from agent.recording import vc0706

        uart = CameraLine(settings["source"], now_ms, log, "camera", inputs)
        return vc0706.Camera(uart, indicator, now_ms, log, settings)
    from hal.posix import opencv_camera

    return opencv_camera.Camera(settings, indicator, now_ms, log)
