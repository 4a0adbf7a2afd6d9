"""A camera through OpenCV. It belongs to CPython: a thread of its own waits for the frames.

Who is in the picture sees that it is taken: no frame leaves here unless the indicator was on before the camera was
opened, and was still on once the frame was there. An indicator that can't be set, or does not read back as on, means no
camera.
"""

import threading
import time
from collections import deque

_WAITING = 8  # frames kept for whoever takes them: a quarter of a second
_AGAIN_S = 1.0
_CLOSE_S = 1.0


class _Fault(Exception):
    """No frames; the text says why."""


class Camera:
    """
    source     index of a camera, path of its device, or a video file, which plays at its own speed, again and again
    indicator  hal Pin: set(level), get() -> bool
    fault      why there are no frames, though they are wanted or the indicator could not even be put out; else ""
    dropped    frames that nobody took in time

    No method waits for the camera, but for `close`, which waits for the frame in flight, a second at most.
    """

    def __init__(self, source, indicator, now_ms, log):
        self._source = source
        self._indicator = indicator
        self._now_ms = now_ms
        self._log = log
        self._frames = deque(maxlen=_WAITING)
        self._changed = threading.Condition()
        self._wanted = False
        self._held = False  # the camera is open, or being opened or closed
        self._told = ""
        self.fault = ""
        self.dropped = 0
        try:
            self._light(0)  # a life before this one may have ended suddenly
        except _Fault as e:
            self._failed(e)
        threading.Thread(target=self._run, daemon=True, name="camera").start()

    def open(self):
        """Begin to take frames, and go on until `close`, however often the camera goes away and comes back."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()

    def frame(self):
        """Return (image, monotonic ms, unix ms) of the oldest frame not yet taken, or None.

        The image is an array of height x width x 3 bytes, blue, green, red. The times are those of its capture.
        """
        with self._changed:
            return self._frames.popleft() if self._frames else None

    def close(self):
        """Take no more frames. The indicator goes off once the camera is shut."""
        with self._changed:
            self._wanted = False
            self._frames.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._held, _CLOSE_S)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted)
                self._held = True
            pause_s = 0
            try:
                self._session()
            except Exception as e:  # ours, or whatever OpenCV raises
                self._failed(e)
                pause_s = _AGAIN_S
            with self._changed:
                self._held = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._wanted, pause_s)

    def _failed(self, e):
        self.fault = "OpenCV is missing; pip install opencv-python-headless" if isinstance(e, ImportError) else str(e)
        if self.fault != self._told:
            self._told = self.fault
            self._log("camera: %s; trying every second" % self.fault)

    def _session(self):
        """Indicator on, camera open, frames as long as they are wanted; camera shut, indicator off."""
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # `fault` tells
        try:
            self._light(1)
            self._look()
            capture = cv2.VideoCapture(self._source)
            try:
                if not capture.isOpened():
                    raise _Fault("cannot open %s" % self._source)
                self._take_all(capture, _frame_s(cv2, capture))
            finally:
                capture.release()
        finally:
            self._light(0)

    def _light(self, level):
        try:
            self._indicator.set(level)
        except OSError as e:
            raise _Fault("the indicator cannot be set (%s)" % e)

    def _look(self):
        """The indicator is on, or there is no frame."""
        try:
            lit = self._indicator.get()
        except OSError as e:
            raise _Fault("the indicator cannot be read (%s)" % e)
        if not lit:
            raise _Fault("the indicator is not on")

    def _take_all(self, capture, frame_s):
        due = time.monotonic()
        taken = 0
        while self._wanted:
            if not capture.grab():
                if taken and frame_s:
                    return  # a file's end: it begins anew
                raise _Fault("%s gives no frames" % self._source)
            stamp = (self._now_ms(), time.time_ns() // 1000000)
            good, image = capture.retrieve()
            self._look()
            if not good:
                raise _Fault("a frame of %s cannot be decoded" % self._source)
            self._give((image,) + stamp)
            taken += 1
            if frame_s:
                due = max(due + frame_s, time.monotonic())
                time.sleep(max(0, due - time.monotonic()))

    def _give(self, frame):
        with self._changed:
            if self._wanted:  # what comes after `close` is nobody's
                self.dropped += len(self._frames) == _WAITING
                self._frames.append(frame)
                self.fault = self._told = ""


def _frame_s(cv2, capture):
    """Return the seconds from frame to frame of a file; 0 for a camera, which has a pace of its own."""
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    rate = capture.get(cv2.CAP_PROP_FPS)
    return 1 / rate if length > 0 and rate > 0 else 0
