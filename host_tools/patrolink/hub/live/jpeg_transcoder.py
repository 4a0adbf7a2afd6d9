"""Pictures of a live view as JPEG, for a page: a camera's own as they come, H.264 decoded in a thread."""

import asyncio
import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor

import av
from PIL import Image

from patrolink.hub.live.depacketizer import JPEG_KIND, is_key
from patrolink.hub.live.receiver import Picture

_MOST_WAITING = 30  # access units: 2 s
_QUALITY = 75
_MOST_PIXELS = 1920 * 1088  # no device says how much memory a picture takes here


class Jpegs:
    """
    show      is handed stamp and JPEG
    want_key  is called when what comes next cannot be decoded before a key frame
    left_out  pictures that were not shown, because this machine is slower than the camera

    Of what has come while the thread was busy all is decoded, and the last is shown. When too much waits, it goes.
    """

    def __init__(self, pool: Executor, show: Callable[[int, bytes], None], want_key: Callable[[], None]) -> None:
        self.left_out = 0
        self._pool, self._show, self._want_key = pool, show, want_key
        self._waiting: deque[Picture] = deque()
        self._busy = self._closed = False
        self._whole = False  # all since the key frame was taken
        self._decoder: av.VideoCodecContext | None = None

    def take(self, picture: Picture) -> None:
        """Take the next picture of a view."""
        if picture.kind == JPEG_KIND:
            self._show(picture.stamp, picture.data)
            return
        if len(self._waiting) >= _MOST_WAITING:
            self.left_out += len(self._waiting)
            self._waiting.clear()
            self._whole = False
        self._whole = self._whole or is_key(picture.data)
        if not self._whole:
            self.left_out += 1
            self._want_key()
            return
        self._waiting.append(picture)
        if not self._busy:
            self._decode()

    def close(self) -> None:
        """Show no more."""
        self._closed = True
        self._waiting.clear()

    def _decode(self) -> None:
        units = list(self._waiting)
        self._waiting.clear()
        self._busy = True
        asyncio.get_running_loop().run_in_executor(self._pool, self._last_of, units).add_done_callback(self._done)

    def _done(self, job: "asyncio.Future[tuple[int, bytes, int]]") -> None:
        self._busy = False
        if self._closed or job.cancelled():
            return
        stamp, jpeg, before = job.result()
        self.left_out += before
        if jpeg:
            self._show(stamp, jpeg)
        if self._waiting:
            self._decode()

    def _last_of(self, units: list[Picture]) -> tuple[int, bytes, int]:
        """In the thread: return the stamp of the last unit, its JPEG, and how many pictures came before it."""
        if self._decoder is None:
            self._decoder = av.VideoCodecContext.create("h264", "r")
            self._decoder.thread_count = 1
            self._decoder.options = {"max_pixels": str(_MOST_PIXELS)}
        frames: list[av.VideoFrame] = []
        for unit in units:
            try:
                frames += self._decoder.decode(av.Packet(unit.data))
            except av.FFmpegError:  # damaged on purpose: what was lost on the way never gets here
                continue
        if not frames:
            return units[-1].stamp, b"", 0
        out = io.BytesIO()
        Image.fromarray(frames[-1].to_ndarray(format="rgb24")).save(out, "JPEG", quality=_QUALITY)
        return units[-1].stamp, out.getvalue(), len(frames) - 1
