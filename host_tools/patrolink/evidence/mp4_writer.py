"""Writes a clip as an MP4 film: H.264, AAC and subtitles, each picture at the time at which it was taken."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from patrolink.audio import alaw
from patrolink.audio.voice_packet import SAMPLE_RATE_HZ
from patrolink.evidence import segment, timeline
from patrolink.evidence.metadata import Subtitle
from patrolink.evidence.segment import Segment

_MS = Fraction(1, 1000)
_SOUND_RATE_HZ = 48000  # every player supports it
_SOUND_DRIFT_MAX = SAMPLE_RATE_HZ // 10  # samples: sound that is farther from its time is moved there
_SOUND_BLOCK = 1 << 16  # samples
_LIMITED_RANGE, _BT601 = 1, 6  # color range and matrix (ITU-T H.273, 8.3)
_NOMINAL_FPS = 25  # for the container; the times of the pictures are the device's
# Style for the encoder of mov_text: white on a dark box, at the bottom.
_STYLE = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, BackColour, Alignment
Style: Default,Sans,16,&Hffffff,&H80000000,2
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


class Mp4Writer:
    """A film being written. Add segments in order, the pictures of each before its sound.

    Attributes:
        times_ms: Time of each picture, from the first one.
        start_ms: Time of the first picture in the clip; None before it is added.

    Args:
        path: The file.
        copied: Whether pictures are copied bit for bit (`copy_pictures`) or encoded (`encode_picture`).
        with_sound: Whether the film has sound.
        tags: Metadata of the file.
    """

    def __init__(self, path: Path, copied: bool, with_sound: bool, tags: dict[str, str]) -> None:
        self.times_ms: list[int] = []
        self.start_ms: int | None = None
        self._copied, self._with_sound = copied, with_sound
        self._container: Any = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata.update(tags)
        self._video: Any = None
        self._audio: Any = None
        self._subtitles: Any = None
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=_SOUND_RATE_HZ)
        self._samples = 0  # written, at 8 kHz

    def _add_streams(self, video: Any) -> None:
        """Set the video stream and add the others after it."""
        self._video = video
        if self._with_sound:
            self._audio = self._container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="mono")
        self._subtitles = self._container.add_stream("mov_text")
        self._subtitles.codec_context.subtitle_header = _STYLE
        self._subtitles.codec_context.time_base = self._subtitles.time_base = _MS

    def _add_encoder(self, width: int, height: int) -> Any:
        options = {"crf": "18", "preset": "veryfast", "bf": "0"}
        stream = self._container.add_stream("libx264", rate=_NOMINAL_FPS, options=options)
        stream.width, stream.height = max(2, width & ~1), max(2, height & ~1)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _MS
        stream.codec_context.color_range, stream.codec_context.colorspace = _LIMITED_RANGE, _BT601
        return stream

    def _film_time_ms(self, at_ms: int) -> int:
        """Return the time of a picture in the film, at least 1 ms after the picture before it."""
        if self.start_ms is None:
            self.start_ms = at_ms
        time_ms = max(at_ms - self.start_ms, self.times_ms[-1] + 1 if self.times_ms else 0)
        self.times_ms.append(time_ms)
        return time_ms

    def copy_pictures(self, at_ms: int, content: Segment) -> None:
        """Copy the H.264 pictures of a segment that starts at at_ms of the clip."""
        for time_ms, packet in timeline.h264_packets(content):
            if self._video is None:
                self._add_streams(self._container.add_stream_from_template(packet.stream))
            packet.duration = min(round((packet.duration or 0) * packet.time_base * 1000), segment.DURATION_MS_MAX)
            packet.pts = packet.dts = self._film_time_ms(at_ms + time_ms)
            packet.time_base = _MS
            packet.stream = self._video
            self._container.mux(packet)

    def encode_picture(self, at_ms: int, picture: Image.Image) -> None:
        """Encode a picture of at_ms of the clip; the first one sets the film's size."""
        if self._video is None:
            self._add_streams(self._add_encoder(*picture.size))
        rgb = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame = rgb.reformat(self._video.width, self._video.height, format="yuv420p")
        frame.pts, frame.time_base = self._film_time_ms(at_ms), _MS
        self._container.mux(self._video.encode(frame))

    def add_sound(self, at_ms: int, content: Segment) -> None:
        """Add the sound of a segment that starts at at_ms of the clip."""
        if self.start_ms is not None and self._audio is not None:
            for time_ms, samples in timeline.sound_of(content):
                self._add_samples(at_ms + time_ms - self.start_ms, samples)

    def _add_samples(self, film_ms: int, samples: alaw.Samples) -> None:
        late = film_ms * SAMPLE_RATE_HZ // 1000 - self._samples
        if late > _SOUND_DRIFT_MAX:
            for at in range(0, late, _SOUND_BLOCK):
                self._encode_samples(np.zeros(min(_SOUND_BLOCK, late - at), np.int16))
        elif late < -_SOUND_DRIFT_MAX:
            samples = samples[min(-late, len(samples)) :]
        self._encode_samples(samples)

    def _encode_samples(self, samples: alaw.Samples) -> None:
        for at in range(0, len(samples), _SOUND_BLOCK):
            block = samples[at : at + _SOUND_BLOCK]
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, self._samples, Fraction(1, SAMPLE_RATE_HZ)
            self._samples += len(block)
            for resampled in self._resampler.resample(frame):
                self._container.mux(self._audio.encode(resampled))

    def close(self, subtitles: list[Subtitle]) -> None:
        """Flush the encoders, add the subtitles and close the file."""
        if self._video is None:
            self._container.close()
            return
        if self._audio is not None:
            for resampled in self._resampler.resample(None):
                self._container.mux(self._audio.encode(resampled))
            self._container.mux(self._audio.encode(None))
        if not self._copied:
            self._container.mux(self._video.encode(None))
        for subtitle in subtitles:
            text = subtitle.text.encode()
            packet = av.Packet(len(text).to_bytes(2, "big") + text)
            packet.stream, packet.time_base = self._subtitles, _MS
            packet.pts = packet.dts = subtitle.start_ms
            packet.duration = subtitle.end_ms - subtitle.start_ms
            self._container.mux(packet)
        self._container.close()
