"""A clip as one film: where each of its segments lies, what is missing between them, and what they hold."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from patrolink_protocol import clip
from PIL import Image

from patrolink.clips import manifest, segment
from patrolink.clips.findings import TAMPERED
from patrolink.clips.keys import EvidenceKey
from patrolink.clips.verify import Verdict
from patrolink.errors import UserError
from patrolink.hub import sound

_APART_MS = 2000  # clocks that differ by more from what was recorded were set in between
_LONGEST_GAP_MS = 3600 * 1000
_MOST_PIXELS = 1 << 24  # of a picture
Picture = Callable[[], Image.Image]


@dataclass(frozen=True)
class Part:
    """A segment's place.

    at_ms    in the clip, from its first segment on; ms: how long it is
    unix_ms  of its start, 0 when not known
    fault    why nothing of it is shown, "" when it is
    kind     what H.264 needs to be told before its pictures, b"" for all else
    header   None with a fault
    """

    path: Path
    at_ms: int
    ms: int
    unix_ms: int
    said: manifest.Said
    fault: str = ""
    kind: bytes = b""
    header: clip.Header | None = None

    @property
    def stem(self) -> str:
        """Boot and step."""
        return self.path.stem


def parts(found: Verdict, evidence: EvidenceKey) -> list[Part]:
    """Return the parts of a clip in their order. Those that follow one another lie end to end; a gap stays a gap.

    What is altered has a fault: its pictures are not those that were recorded.
    """
    closed = {it.where: it.words for it in found.findings if it.grade == TAMPERED or it.kind in ("missing", "thinned")}
    listed = {manifest.file_of(said) for said in found.manifest.listed}
    out: list[Part] = []
    for said in found.manifest.segments:
        path = found.folder / manifest.file_of(said)
        at_ms = out[-1].at_ms + _span(out[-1], said, _adjacent(out[-1].stem, path.stem, listed)) if out else 0
        ms, fault, kind, header = said["ms"], closed.get(path.name, ""), b"", None
        if not fault:
            try:
                it = segment.read(path, evidence)
                ms, kind, header = max(ms, it.end_ms), _kind(it), it.header
            except UserError as e:
                fault = str(e)
        out.append(Part(path, at_ms, ms, said["start_ms"], said, fault, kind, header))
    return out


def _span(before: Part, said: manifest.Said, adjacent: bool) -> int:
    """Return the ms from the start of a part to that of the next one: the clock's, as far as that was not set."""
    if before.unix_ms and said["start_ms"]:
        clock_ms: int = said["start_ms"] - before.unix_ms
        if 0 <= clock_ms - before.ms <= (_APART_MS if adjacent and before.said["whole"] else _LONGEST_GAP_MS):
            return clock_ms
    return before.ms


def _adjacent(a: str, b: str, listed: set[str]) -> bool:
    """Whether no step was left out between two: a picture may stand there."""
    between = range(int(a[7:13]) + 1, int(b[7:13]))
    return a[:6] == b[:6] and all(clip.name_of(int(a[:6]), step) in listed for step in between)


def _kind(it: segment.Segment) -> bytes:
    """Return the parameter sets of H.264; none where its pictures do not come in the order in which they are shown."""
    if it.header.codec != clip.H264_MP4:
        return b""
    try:
        with container(it) as film:
            context = film.streams.video[0].codec_context
            return b"" if context.has_b_frames else bytes(context.extradata or b"")
    except (av.error.FFmpegError, IndexError):
        return b""


def opened(parts: list[Part], evidence: EvidenceKey) -> Iterator[tuple[Part, segment.Segment]]:
    """Give each part that can be shown with what is in it. One is held at a time."""
    for part in parts:
        if not part.fault:
            yield part, segment.read(part.path, evidence)


def pictures(it: segment.Segment) -> Iterator[tuple[int, Picture]]:
    """Give (ms since the segment's start, function that returns the picture) as far as they can be decoded."""
    if it.header.codec == clip.H264_MP4:
        yield from _decoded(it)
        return
    for time_ms, data in it.jpegs():
        try:
            picture = Image.open(io.BytesIO(data), formats=("JPEG",))
            if picture.width * picture.height <= _MOST_PIXELS:
                yield time_ms, picture.convert("RGB").copy
        except (OSError, SyntaxError, ValueError):
            continue


def container(it: segment.Segment) -> Any:
    """Return the file that a segment's media are, opened; av.error.FFmpegError when it is none."""
    return av.open(io.BytesIO(it.file()), format="mp4")


def _decoded(it: segment.Segment) -> Iterator[tuple[int, Picture]]:
    try:
        with container(it) as film:
            for frame in film.decode(video=0):
                timed = frame.pts is not None and frame.time_base is not None
                if timed and frame.width * frame.height <= _MOST_PIXELS:
                    yield round(frame.pts * frame.time_base * 1000), frame.to_image
    except (av.error.FFmpegError, IndexError):
        return


def heard(it: segment.Segment) -> Iterator[tuple[int, sound.Samples]]:
    """Give (ms since the segment's start, samples at 8 kHz) as far as there is sound that can be decoded."""
    if it.header.codec == clip.MJPEG_AVI:
        at = 0
        for alaw in it.alaw():
            yield at * 1000 // sound.RATE, sound.decode(alaw)
            at += len(alaw)
    elif it.header.codec == clip.H264_MP4:
        resampler: Any = av.AudioResampler(format="s16", layout="mono", rate=sound.RATE)
        try:
            with container(it) as film:
                for frame in film.decode(audio=0) if film.streams.audio else ():
                    for piece in resampler.resample(frame):
                        time_ms = round((piece.pts or 0) * (piece.time_base or Fraction(1, sound.RATE)) * 1000)
                        yield time_ms, np.asarray(piece.to_ndarray()[0], np.int16)
        except (av.error.FFmpegError, IndexError):
            return


def unix_ms(part: Part, it: segment.Segment, time_ms: int) -> int | None:
    """Return the wall clock at a time of a segment, None when the device did not know it."""
    known = [(at, then) for at, then, source in it.clocks if source and at <= time_ms]
    if known:
        return known[-1][1] + time_ms - known[-1][0]
    return part.unix_ms + time_ms if part.unix_ms else None
