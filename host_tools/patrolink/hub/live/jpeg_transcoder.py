"""JPEG transcoder of a live view for browsers: JPEG pictures pass through, H.264 is decoded in a thread."""

import asyncio
import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple

import av
from PIL import Image

from patrolink.hub.live.depacketizer import JPEG_PAYLOAD_TYPE, is_key_frame
from patrolink.hub.live.stream import Picture

_MAX_PENDING = 30  # access units: 2 s
_JPEG_QUALITY = 75
_MAX_PIXELS = 1920 * 1088  # limits the memory that a device can make the decoder allocate


class _Decoded(NamedTuple):
    """Result of a decoding job: the last picture as JPEG (empty: none), and the number of earlier ones."""

    timestamp: int
    jpeg: bytes
    skipped: int


class JpegTranscoder:
    """Converts the pictures of one live view to JPEG.

    While the thread is busy, pictures are queued. Then all of them are decoded and the last one is delivered. If the
    queue is full, it is dropped until the next key frame.

    Args:
        pool: Where H.264 is decoded.
        on_jpeg: Called with RTP timestamp and JPEG.
        request_key_frame: Called when the next pictures cannot be decoded without a key frame.

    Attributes:
        skipped: Pictures that were not delivered because this machine is slower than the camera.
    """

    def __init__(
        self, pool: Executor, on_jpeg: Callable[[int, bytes], None], request_key_frame: Callable[[], None]
    ) -> None:
        self.skipped = 0
        self._pool, self._on_jpeg, self._request_key_frame = pool, on_jpeg, request_key_frame
        self._pending: deque[Picture] = deque()
        self._busy = self._closed = False
        self._decodable = False  # every picture since the last key frame was queued
        self._decoder: av.VideoCodecContext | None = None

    def push(self, picture: Picture) -> None:
        """Convert the next picture of the view."""
        if picture.payload_type == JPEG_PAYLOAD_TYPE:
            self._on_jpeg(picture.timestamp, picture.data)
            return
        if len(self._pending) >= _MAX_PENDING:
            self.skipped += len(self._pending)
            self._pending.clear()
            self._decodable = False
        self._decodable = self._decodable or is_key_frame(picture.data)
        if not self._decodable:
            self.skipped += 1
            self._request_key_frame()
            return
        self._pending.append(picture)
        if not self._busy:
            self._start_decoding()

    def close(self) -> None:
        """Deliver no more pictures."""
        self._closed = True
        self._pending.clear()

    def _start_decoding(self) -> None:
        pictures = list(self._pending)
        self._pending.clear()
        self._busy = True
        job = asyncio.get_running_loop().run_in_executor(self._pool, self._decode, pictures)
        job.add_done_callback(self._on_decoded)

    def _on_decoded(self, job: "asyncio.Future[_Decoded]") -> None:
        self._busy = False
        if self._closed or job.cancelled():
            return
        decoded = job.result()
        self.skipped += decoded.skipped
        if decoded.jpeg:
            self._on_jpeg(decoded.timestamp, decoded.jpeg)
        if self._pending:
            self._start_decoding()

    def _decode(self, pictures: list[Picture]) -> _Decoded:
        """Decode pictures in order (in a thread)."""
        if self._decoder is None:
            self._decoder = av.VideoCodecContext.create("h264", "r")
            self._decoder.thread_count = 1
            self._decoder.options = {"max_pixels": str(_MAX_PIXELS)}
        frames: list[av.VideoFrame] = []
        for picture in pictures:
            try:
                frames += self._decoder.decode(av.Packet(picture.data))
            except av.FFmpegError:  # malformed by the device: packets lost on the network never get here
                continue
        timestamp = pictures[-1].timestamp
        if not frames:
            return _Decoded(timestamp, b"", 0)
        out = io.BytesIO()
        Image.fromarray(frames[-1].to_ndarray(format="rgb24")).save(out, "JPEG", quality=_JPEG_QUALITY)
        return _Decoded(timestamp, out.getvalue(), len(frames) - 1)
