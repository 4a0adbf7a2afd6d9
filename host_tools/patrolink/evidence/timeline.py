"""A clip as one film: where each of its segments lies, what is missing between them, and what they hold."""

import bisect
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from patrolink_protocol import clip
from PIL import Image

from patrolink.audio import alaw
from patrolink.audio.voice_packet import SAMPLE_RATE_HZ
from patrolink.core.errors import UserError
from patrolink.evidence import manifest, segment
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.findings import TAMPERED
from patrolink.evidence.verify import Verdict

_APART_MS = 2000  # clocks that differ by more from what was recorded were set in between
_LONGEST_GAP_MS = 3600 * 1000
_LONGEST_MS = 4 * 3600 * 1000  # of a clip: a device seals it after ten minutes, gaps come in between
_MOST_PIXELS = 1 << 24  # of a picture
Picture = Callable[[], Image.Image]


@dataclass(frozen=True)
class Part:
    """A segment's place.

    at_ms    in the clip, from its first segment on; ms: how long it is
    last_ms  its last picture's, since its start: its sound may go on into the next segment, whose picture came late
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
    last_ms: int = 0

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
        ms, fault, kind, header = min(said["ms"], segment.MOST_MS), closed.get(path.name, ""), b"", None
        last_ms = ms
        if at_ms + segment.MOST_MS > _LONGEST_MS:
            at_ms, ms, fault = _LONGEST_MS, 0, fault or "it is hours after the clip's begin: no clip is that long"
        if not fault:
            try:
                it = segment.read(path, evidence, said["sha256"])
                ms, kind, header = max(ms, it.end_ms), _kind(it), it.header
                last_ms = _last_ms(it)
            except UserError as e:
                fault = str(e).removeprefix(f"{path}: ")
        out.append(Part(path, at_ms, ms, said["start_ms"], said, fault, kind, header, last_ms))
    return out


def _span(before: Part, said: manifest.Said, adjacent: bool) -> int:
    """Return the ms from the start of a part to that of the next one: the clock's, as far as that was not set."""
    if before.unix_ms and said["start_ms"]:
        clock_ms: int = said["start_ms"] - before.unix_ms
        longest = _APART_MS if adjacent and before.said["whole"] else _LONGEST_GAP_MS
        if before.last_ms < clock_ms and -_APART_MS <= clock_ms - before.ms <= longest:
            return clock_ms
    return before.ms


def _last_ms(it: segment.Segment) -> int:
    """Return the time of a segment's last picture; 0 when there is none."""
    if it.header.codec == clip.H264_MP4:
        return max((ms for _, ms in packets(it)), default=0)
    return max((ms for ms, _ in it.jpegs()), default=0)


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
            yield part, segment.read(part.path, evidence, part.said["sha256"])


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
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue


def container(it: segment.Segment) -> Any:
    """Return the file that a segment's media are, opened; av.error.FFmpegError when it is none."""
    return av.open(io.BytesIO(it.file()), format="mp4")


def time_ms(of: Any) -> int | None:
    """Return when in its segment a packet or frame is, in ms; None when it tells no time that a segment has."""
    if of.pts is None or not of.time_base:
        return None
    ms = round(of.pts * of.time_base * 1000)
    return ms if 0 <= ms <= segment.MOST_MS else None


def packets(it: segment.Segment) -> Iterator[tuple[Any, int]]:
    """Give (H.264 packet, ms since the segment's start) as far as they can be read."""
    try:
        with container(it) as film:
            for packet in itertools.islice(film.demux(film.streams.video[0]), segment.MOST_RECORDS):
                when = time_ms(packet)
                if when is not None and packet.size:
                    yield packet, when
    except (av.error.FFmpegError, IndexError):
        return


def _decoded(it: segment.Segment) -> Iterator[tuple[int, Picture]]:
    try:
        with container(it) as film:
            film.streams.video[0].codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
            for frame in itertools.islice(film.decode(video=0), segment.MOST_RECORDS):
                when = time_ms(frame)
                if when is not None:
                    yield when, frame.to_image
    except (av.error.FFmpegError, IndexError):
        return


def heard(it: segment.Segment) -> Iterator[tuple[int, alaw.Samples]]:
    """Give (ms since the segment's start, samples at 8 kHz) as far as there is sound that can be decoded."""
    if it.header.codec == clip.MJPEG_AVI:
        at = 0
        for chunk in it.alaw():
            yield at * 1000 // SAMPLE_RATE_HZ, alaw.decode(chunk)
            at += len(chunk)
    elif it.header.codec == clip.H264_MP4:
        resampler: Any = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
        try:
            with container(it) as film:
                for frame in film.decode(audio=0) if film.streams.audio else ():
                    for piece in resampler.resample(frame):
                        when = time_ms(piece)
                        if when is not None:
                            yield when, np.asarray(piece.to_ndarray()[0], np.int16)
        except (av.error.FFmpegError, IndexError):
            return


def unix_ms(part: Part, it: segment.Segment, time_ms: int) -> int | None:
    """Return the wall clock at a time of a segment, None when the device did not know it."""
    n = bisect.bisect_right(it.known, (time_ms, 1 << 64))
    if n:
        at, then = it.known[n - 1]
        return then + time_ms - at
    return part.unix_ms + time_ms if part.unix_ms else None
