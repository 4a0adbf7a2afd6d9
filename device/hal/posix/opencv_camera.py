"""A camera read through OpenCV, for CPython. A thread waits for its frames.

People in the picture must be able to see that the camera records. A frame is delivered only if the indicator was on
before the camera was opened and was still on after the frame was taken. An indicator that cannot be set, or does not
read back as on, disables the camera.
"""

import threading
import time
from collections import deque, namedtuple

_RETRY_S = 1.0
_CLOSE_TIMEOUT_S = 1.0
_LATE_MAX_S = 0.5  # frames of a file that are later are skipped

Frame = namedtuple("Frame", ("picture", "mono_ms", "unix_ms"))


class _CameraError(Exception):
    """There are no frames; the text says why."""


class Camera:
    """A camera or a video file.

    Frames of another size are scaled. Surplus frames of a faster camera are dropped, and frames of a slower file are
    repeated. The frames of one second are buffered. No method waits for the camera, except `close`, which waits up to
    one second for the frame in progress.

    Args:
        settings: The "camera" object of the configuration: `source`, the index of a camera, the path of its device, or
            a video file, which plays in a loop at its own speed; `width`, `height`, `fps` of the delivered frames.
        indicator: hal Pin: set(level), get() -> bool.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.

    Attributes:
        fault: Why there are no frames although the camera is open, or why the indicator cannot be switched off; or "".
        dropped: Frames that were not read in time.
        damaged: Frames that could not be decoded. A second of them is a fault.

    Raises:
        ValueError: A setting is out of range.
    """

    def __init__(self, settings, indicator, now_ms, log):
        self.width, self.height = settings.get("width", 640), settings.get("height", 480)
        self.fps = settings.get("fps", 15)
        for name, minimum, maximum in (("width", 64, 4096), ("height", 64, 4096), ("fps", 1, 60)):
            value = getattr(self, name)
            even = name != "fps"
            if not isinstance(value, int) or not minimum <= value <= maximum or (value & 1 and even):
                kind = "an even number" if even else "a number"
                raise ValueError("camera: %s must be %s from %d to %d" % (name, kind, minimum, maximum))
        self._source = settings["source"]
        self._indicator = indicator
        self._now_ms = now_ms
        self._log = log
        self._frames = deque(maxlen=self.fps)
        self._changed = threading.Condition()
        self._enabled = False
        self._in_use = False  # the device is open, or being opened or closed
        self._logged_fault = ""
        self.fault = ""
        self.damaged = self.dropped = 0
        self._frame_s = 1 / self.fps
        self._due_s = 0.0  # of the next frame; continues when a file restarts
        try:
            self._set_indicator(0)  # a crash may have left it on
        except _CameraError as e:
            self._set_fault(e)
        threading.Thread(target=self._run, daemon=True, name="camera").start()

    def open(self):
        """Start to take frames until `close`; the device is reopened whenever it disappears and comes back."""
        with self._changed:
            self._enabled = True
            self._changed.notify_all()

    def frame(self):
        """Return the oldest buffered frame, or None.

        Returns:
            Frame: `picture`, an array of height x width x 3 bytes (blue, green, red), and the monotonic and unix times
            of its capture in milliseconds.
        """
        with self._changed:
            return self._frames.popleft() if self._frames else None

    def close(self):
        """Stop taking frames. The indicator is switched off after the camera is closed."""
        with self._changed:
            self._enabled = False
            self._frames.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._in_use, _CLOSE_TIMEOUT_S)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._enabled)
                self._in_use = True
            pause_s = 0
            try:
                self._capture()
            except Exception as e:  # _CameraError, or any exception that OpenCV raises
                self._set_fault(e)
                pause_s = _RETRY_S
            with self._changed:
                self._in_use = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._enabled, pause_s)

    def _set_fault(self, e):
        self.fault = "OpenCV is missing; pip install opencv-python-headless" if isinstance(e, ImportError) else str(e)
        if self.fault != self._logged_fault:
            self._logged_fault = self.fault
            self._log("camera: %s; retrying every second" % self.fault)

    def _capture(self):
        """Switch the indicator on, open the camera and take frames until `close`; then undo both."""
        import cv2  # heavy, and optional

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # `fault` reports errors
        try:
            self._set_indicator(1)
            self._check_indicator()
            capture = cv2.VideoCapture(self._source)
            try:
                if not capture.isOpened():
                    raise _CameraError("cannot open %s" % self._source)
                self._take_frames(cv2, capture)
            finally:
                capture.release()
        finally:
            self._set_indicator(0)

    def _set_indicator(self, level):
        try:
            self._indicator.set(level)
        except OSError as e:
            raise _CameraError("the indicator cannot be set (%s)" % e)

    def _check_indicator(self):
        try:
            on = self._indicator.get()
        except OSError as e:
            raise _CameraError("the indicator cannot be read (%s)" % e)
        if not on:
            raise _CameraError("the indicator is not on")

    def _take_frames(self, cv2, capture):
        from hal.posix.letterbox import letterbox  # needs OpenCV

        rate = _file_rate(cv2, capture)
        failed = 0
        for _ in self._grab_from_file(capture, rate) if rate else self._grab_from_camera(cv2, capture):
            mono_ms, unix_ms = self._now_ms(), time.time_ns() // 1000000
            decoded, picture = capture.retrieve()
            self._check_indicator()
            if not decoded:
                self.damaged += 1
                failed += 1
                if failed >= self.fps:
                    raise _CameraError("frames of %s cannot be decoded" % self._source)
                continue
            failed = 0
            self._deliver(Frame(letterbox(picture, self.width, self.height), mono_ms, unix_ms))

    def _grab_from_camera(self, cv2, capture):
        """Yield after each grabbed frame that is due."""
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.height)
        capture.set(cv2.CAP_PROP_FPS, self.fps)
        while self._enabled:
            if not capture.grab():
                raise _CameraError("%s gives no frames" % self._source)
            now_s = time.monotonic()
            if now_s >= self._due_s - self._frame_s / 4:
                self._due_s = max(self._due_s, now_s - self._frame_s) + self._frame_s
                yield

    def _grab_from_file(self, capture, rate):
        """Yield after each grabbed frame at its time; return at the end of the file, which the caller reopens."""
        grabbed = delivered = 0
        while self._enabled:
            while grabbed <= delivered * rate / self.fps:
                if not capture.grab():
                    if not grabbed:
                        raise _CameraError("%s gives no frames" % self._source)
                    return
                grabbed += 1
            now_s = time.monotonic()
            self._due_s += self._frame_s
            if self._due_s < now_s - _LATE_MAX_S:
                self._due_s = now_s
            time.sleep(max(0, self._due_s - now_s))
            delivered += 1
            yield

    def _deliver(self, frame):
        with self._changed:
            if self._enabled:  # a frame that ends after `close` is discarded
                self.dropped += len(self._frames) == self.fps
                self._frames.append(frame)
                self.fault = self._logged_fault = ""


def _file_rate(cv2, capture):
    """Return the frames per second of a file, or 0 for a camera, which sets the pace."""
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if length > 0 and rate > 0 else 0
