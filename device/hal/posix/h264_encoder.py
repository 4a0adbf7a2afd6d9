"""H.264 of a live view: small, without delay, its rate changed as it goes. For boards that run CPython with PyAV."""

from fractions import Fraction

import av

_WIDTH = 480  # at most; the height follows the camera's shape
_KEY_FRAMES = 150  # between two at most: a viewer who comes later, or lost one, sees a picture again


class Encoder:
    """What agent/live_view/session.py asks for pictures that are BGR arrays."""

    def __init__(self, width, height, fps):
        narrow = min(width, _WIDTH)
        self._width, self._height = narrow // 16 * 16, height * narrow // width // 16 * 16
        self._fps = fps
        self._context = None

    def encode(self, picture, mono_ms, kbps, key):
        """Return the access unit (Annex B, with its parameter sets when it is a key frame) of a picture."""
        if self._context is None:
            self._open(kbps)
        if self._context.bit_rate != kbps * 1000:
            self._context.bit_rate = kbps * 1000  # libx264 follows with the next picture
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame = frame.reformat(width=self._width, height=self._height, format="yuv420p")
        frame.pts = mono_ms - self._begin if self._begin is not None else 0
        if self._begin is None:
            self._begin = mono_ms
        frame.time_base = Fraction(1, 1000)
        frame.pict_type = av.video.frame.PictureType.I if key else av.video.frame.PictureType.NONE
        return b"".join([bytes(packet) for packet in self._context.encode(frame)])

    def _open(self, kbps):
        self._begin = None
        self._context = context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.time_base = Fraction(1, 1000)
        context.framerate = Fraction(self._fps)
        context.bit_rate = kbps * 1000
        context.gop_size = _KEY_FRAMES
        context.max_b_frames = 0
        context.thread_count = 1
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "forced-idr": "1"}

    def close(self):
        """Let go of the codec; the next picture begins anew."""
        self._context = None
