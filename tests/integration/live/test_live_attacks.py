"""Oversized pictures of a live view. tests/simulation/test_live_faults.py has forged commands and killed hubs."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy
from patrolink.hub.live.jpeg_transcoder import JpegTranscoder
from patrolink.hub.live.stream import Picture
from PIL import Image


def test_oversized_picture_is_not_decoded_and_does_not_end_the_view():
    def key_frame(width, height):
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1, 10)
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
        frame = av.VideoFrame.from_ndarray(numpy.zeros((height * 3 // 2, width), numpy.uint8), format="yuv420p")
        frame.pts = 0
        unit = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
        return unit.replace(b"\0\0\0\1", b"\0\0\1").replace(b"\0\0\1", b"\0\0\0\1")

    async def run():
        shown = []

        def on_jpeg(timestamp, jpeg):
            shown.append(Image.open(io.BytesIO(jpeg)).size)

        with ThreadPoolExecutor(1) as pool:
            transcoder = JpegTranscoder(pool, on_jpeg, lambda: None)
            for timestamp, size in enumerate(((4096, 2304), (640, 480), (1920, 1088))):
                transcoder.push(Picture("vest-1", 96, timestamp, key_frame(*size)))
                while transcoder._busy:
                    await asyncio.sleep(0.01)
        return shown

    assert asyncio.run(run()) == [(640, 480), (1920, 1088)]
