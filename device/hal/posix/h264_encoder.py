"""H.264 encoder of the live view: small pictures, no delay, variable bit rate. For CPython with PyAV."""

from fractions import Fraction

import av

_WIDTH_MAX = 480  # the height follows from the camera's aspect ratio
_KEY_FRAME_INTERVAL = 150  # frames: a viewer who joins late, or lost a key frame, gets a picture again


class Encoder:
    """The encoder that agent.live_view.session needs for pictures that are BGR arrays.

    Args:
        width: Width of the camera's pictures in pixels.
        height: Their height in pixels.
        fps: Their rate per second.
    """

    def __init__(self, width, height, fps):
        scaled_width = min(width, _WIDTH_MAX)
        self._width, self._height = scaled_width // 16 * 16, height * scaled_width // width // 16 * 16
        self._fps = fps
        self._context = None

    def encode(self, picture, mono_ms, kbps, key):
        """Encode a picture.

        Args:
            picture: BGR array, height x width x 3 bytes.
            mono_ms: Monotonic time of the picture in milliseconds.
            kbps: Bit rate from this picture on, in kbit/s.
            key: Whether it must be a key frame.

        Returns:
            The access unit in Annex B format; a key frame includes its parameter sets.
        """
        if self._context is None:
            self._open(kbps)
        if self._context.bit_rate != kbps * 1000:
            self._context.bit_rate = kbps * 1000  # libx264 applies it to the next picture
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame = frame.reformat(width=self._width, height=self._height, format="yuv420p")
        frame.pts = mono_ms - self._start_ms if self._start_ms is not None else 0
        if self._start_ms is None:
            self._start_ms = mono_ms
        frame.time_base = Fraction(1, 1000)
        frame.pict_type = av.video.frame.PictureType.I if key else av.video.frame.PictureType.NONE
        return b"".join([bytes(packet) for packet in self._context.encode(frame)])

    def _open(self, kbps):
        self._start_ms = None
        self._context = context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.time_base = Fraction(1, 1000)
        context.framerate = Fraction(self._fps)
        context.bit_rate = kbps * 1000
        context.gop_size = _KEY_FRAME_INTERVAL
        context.max_b_frames = 0
        context.thread_count = 1
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "forced-idr": "1"}

    def close(self):
        """Release the codec; the next picture opens it again."""
        self._context = None
