"""A clip as an MP4 that plays everywhere: H.264, AAC and subtitles, every picture at the time when it was taken."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from patrolink.audio import alaw
from patrolink.audio.voice_packet import SAMPLE_RATE_HZ
from patrolink.evidence import segment, timeline
from patrolink.evidence.segment import Segment

_MS = Fraction(1, 1000)
_RATE = 48000  # of the sound: every player takes it
_APART = SAMPLE_RATE_HZ // 10  # samples: sound that is farther than this from where it belongs is moved there
_PIECE = 1 << 16
_LIMITED, _BT601 = 1, 6  # what the colours are made of (ITU-T H.273, 8.3)
_NOMINAL = 25  # frames a second, for what asks; the times of the pictures are those of the device
# A style, as the encoder of mov_text takes it: white on a dark box, at the bottom.
_STYLE = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, BackColour, Alignment
Style: Default,Sans,16,&Hffffff,&H80000000,2
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@dataclass(frozen=True)
class Line:
    """A subtitle: from, until (ms) and what it says."""

    start_ms: int
    end_ms: int
    text: str


class Movie:
    """The film being written. Parts are added in their order, the pictures of each before its sound.

    copied   whether the pictures are those of the device bit for bit, or encoded anew
    times    ms of each picture, from the first one on
    start_ms where in the clip the first picture is; None before there is one
    """

    def __init__(self, path: Path, copied: bool, with_sound: bool, facts: dict[str, str]) -> None:
        """Begin a film; its pictures have the form of the first one."""
        self.copied = copied
        self.times: list[int] = []
        self.start_ms: int | None = None
        self._out: Any = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._out.metadata.update(facts)
        self._with_sound = with_sound
        self._video: Any = None
        self._audio: Any = None
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=_RATE)
        self._said = 0  # samples at 8 kHz so far

    def _streams(self, video: Any) -> None:
        """Take in the stream of the pictures, and make the others."""
        self._video = video
        self._audio = self._out.add_stream("aac", rate=_RATE, layout="mono") if self._with_sound else None
        self._text: Any = self._out.add_stream("mov_text")
        self._text.codec_context.subtitle_header = _STYLE
        self._text.codec_context.time_base = self._text.time_base = _MS

    def _anew(self, width: int, height: int) -> Any:
        stream = self._out.add_stream("libx264", rate=_NOMINAL, options={"crf": "18", "preset": "veryfast", "bf": "0"})
        stream.width, stream.height = max(2, width & ~1), max(2, height & ~1)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _MS
        stream.codec_context.color_range, stream.codec_context.colorspace = _LIMITED, _BT601
        return stream

    def _place(self, at_ms: int) -> int:
        """Return the time of a picture in the film, later than that of the one before in any case."""
        if self.start_ms is None:
            self.start_ms = at_ms
        time_ms = max(at_ms - self.start_ms, self.times[-1] + 1 if self.times else 0)
        self.times.append(time_ms)
        return time_ms

    def copy(self, at_ms: int, it: Segment) -> None:
        """Add the pictures of a segment that begins at at_ms of the clip as they are."""
        for packet, time_ms in timeline.packets(it):
            if self._video is None:
                self._streams(self._out.add_stream_from_template(packet.stream))
            packet.duration = min(round((packet.duration or 0) * packet.time_base * 1000), segment.MOST_MS)
            packet.pts = packet.dts = self._place(at_ms + time_ms)
            packet.time_base = _MS
            packet.stream = self._video
            self._out.mux(packet)

    def encode(self, at_ms: int, picture: Image.Image) -> None:
        """Add a picture of at_ms of the clip anew."""
        if self._video is None:
            self._streams(self._anew(*picture.size))
        whole = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame = whole.reformat(self._video.width, self._video.height, format="yuv420p")
        frame.pts, frame.time_base = self._place(at_ms), _MS
        self._out.mux(self._video.encode(frame))

    def hear(self, at_ms: int, it: Segment) -> None:
        """Add the sound of a segment that begins at at_ms of the clip."""
        if self.start_ms is not None and self._audio is not None:
            for time_ms, samples in timeline.heard(it):
                self._hear(at_ms + time_ms - self.start_ms, samples)

    def _hear(self, at_ms: int, samples: alaw.Samples) -> None:
        behind = at_ms * SAMPLE_RATE_HZ // 1000 - self._said
        if behind > _APART:
            for at in range(0, behind, _PIECE):
                self._say(np.zeros(min(_PIECE, behind - at), np.int16))
        elif behind < -_APART:
            samples = samples[min(-behind, len(samples)) :]
        self._say(samples)

    def _say(self, samples: alaw.Samples) -> None:
        for at in range(0, len(samples), _PIECE):
            piece = samples[at : at + _PIECE]
            frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, self._said, Fraction(1, SAMPLE_RATE_HZ)
            self._said += len(piece)
            for made in self._resampler.resample(frame):
                self._out.mux(self._audio.encode(made))

    def close(self, lines: list[Line]) -> None:
        """Write the subtitles and what waits, and end the file."""
        if self._video is None:
            self._out.close()
            return
        if self._audio is not None:
            for made in self._resampler.resample(None):
                self._out.mux(self._audio.encode(made))
            self._out.mux(self._audio.encode(None))
        if not self.copied:
            self._out.mux(self._video.encode(None))
        for line in lines:
            text = line.text.encode()
            packet = av.Packet(len(text).to_bytes(2, "big") + text)
            packet.stream, packet.time_base = self._text, _MS
            packet.pts = packet.dts = line.start_ms
            packet.duration = line.end_ms - line.start_ms
            self._out.mux(packet)
        self._out.close()


def srt(lines: list[Line]) -> str:
    """Return subtitles as SubRip takes them."""
    blocks = [f"{n}\n{_srt(it.start_ms)} --> {_srt(it.end_ms)}\n{it.text}\n" for n, it in enumerate(lines, 1)]
    return "\n".join(blocks)


def _srt(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"
