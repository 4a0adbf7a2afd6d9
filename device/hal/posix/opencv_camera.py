"""A camera through OpenCV. It belongs to CPython: a thread of its own waits for the frames.

Who is in the picture sees that it is taken: no frame leaves here unless the indicator was on before the camera was
opened, and was still on once the frame was there. An indicator that can't be set, or does not read back as on, means no
camera.
"""

import threading
import time
from collections import deque

_AGAIN_S = 1.0
_CLOSE_S = 1.0
_LATE_S = 0.5  # by more, frames of a file are not made up for


class _Fault(Exception):
    """No frames; the text says why."""


class Camera:
    """
    indicator  hal Pin: set(level), get() -> bool
    given      configuration: source, the index of a camera, path of its device, or a video file, which plays at its own
               speed, again and again; width, height, fps of the frames that come here. ValueError tells what is wrong
    fault      why there are no frames, though they are wanted or the indicator could not even be put out; else ""
    dropped    frames that nobody took in time
    damaged    frames that could not be decoded; a second of them is a fault

    Frames of another size are scaled; of more than fps frames a second the others are left out, and a file of fewer
    gives some of them twice. Those of a second are kept for whoever takes them. No method waits for the camera, but for
    `close`, which waits for the frame in flight, a second at most.
    """

    def __init__(self, given, indicator, now_ms, log):
        self.width, self.height, self.fps = given.get("width", 640), given.get("height", 480), given.get("fps", 15)
        for name, least, most in (("width", 64, 4096), ("height", 64, 4096), ("fps", 1, 60)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most or (value & 1 and name != "fps"):
                raise ValueError("camera: %s: %d to %d%s" % (name, least, most, "" if name == "fps" else ", even"))
        self._source = given["source"]
        self._indicator = indicator
        self._now_ms = now_ms
        self._log = log
        self._frames = deque(maxlen=self.fps)
        self._changed = threading.Condition()
        self._wanted = False
        self._held = False  # the camera is open, or being opened or closed
        self._told = ""
        self.fault = ""
        self.damaged = self.dropped = 0
        self._frame_s = 1 / self.fps
        self._due = 0.0  # the next frame's, also of a file that begins anew
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
                self._take_all(cv2, capture)
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

    def _take_all(self, cv2, capture):
        rate = _rate(cv2, capture)
        bad = 0
        for _ in self._of_file(capture, rate) if rate else self._of_camera(cv2, capture):
            stamp = (self._now_ms(), time.time_ns() // 1000000)
            good, image = capture.retrieve()
            self._look()
            if not good:
                self.damaged += 1
                bad += 1
                if bad >= self.fps:
                    raise _Fault("frames of %s cannot be decoded" % self._source)
                continue
            bad = 0
            if image.shape[:2] != (self.height, self.width):
                image = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)
            self._give((image,) + stamp)

    def _of_camera(self, cv2, capture):
        """Yield whenever a frame that is wanted has been grabbed."""
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.height)
        capture.set(cv2.CAP_PROP_FPS, self.fps)
        while self._wanted:
            if not capture.grab():
                raise _Fault("%s gives no frames" % self._source)
            now = time.monotonic()
            if now >= self._due - self._frame_s / 4:
                self._due = max(self._due, now - self._frame_s) + self._frame_s
                yield

    def _of_file(self, capture, rate):
        """Yield whenever the frame of the time has been grabbed; end with the file, which is then begun anew."""
        grabbed = taken = 0
        while self._wanted:
            while grabbed <= taken * rate / self.fps:
                if not capture.grab():
                    if not grabbed:
                        raise _Fault("%s gives no frames" % self._source)
                    return
                grabbed += 1
            now = time.monotonic()
            self._due += self._frame_s
            if self._due < now - _LATE_S:
                self._due = now
            time.sleep(max(0, self._due - now))
            taken += 1
            yield

    def _give(self, frame):
        with self._changed:
            if self._wanted:  # what comes after `close` is nobody's
                self.dropped += len(self._frames) == self.fps
                self._frames.append(frame)
                self.fault = self._told = ""


def _rate(cv2, capture):
    """Return the frames a second of a file; 0 for a camera, which has a pace of its own."""
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if length > 0 and rate > 0 else 0
