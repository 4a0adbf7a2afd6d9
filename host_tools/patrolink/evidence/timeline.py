"""The timeline of a clip: where each segment lies, what is missing between them, and the media that they hold."""

import bisect
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from patrolink_protocol import clip
from PIL import Image

from patrolink.audio import alaw
from patrolink.audio.voice_packet import SAMPLE_RATE_HZ
from patrolink.core.errors import UserError
from patrolink.evidence import manifest, segment
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.manifest import ManifestLine
from patrolink.evidence.segment import Segment
from patrolink.evidence.verdict import TAMPERED
from patrolink.evidence.verify import ClipVerdict

_CLOCK_TOLERANCE_MS = 2000  # a clock that differs by more from what was recorded was set in between
_GAP_MAX_MS = 3600 * 1000
_CLIP_MAX_MS = 4 * 3600 * 1000  # a device seals a clip after ten minutes, gaps not counted
_EVENT_DISTANCE_MAX_MS = 2000  # between an event and the segment after it
_PIXELS_MAX = 1 << 24  # of a picture
DecodePicture = Callable[[], Image.Image]


class ClipEvent(NamedTuple):
    """An event: ms from the clip's start, and its trigger (clip.TRIGGERS)."""

    at_ms: int
    trigger: str


class TimedPicture(NamedTuple):
    """A picture: ms since its segment's start, and a function that decodes it."""

    time_ms: int
    decode: DecodePicture


class TimedPacket(NamedTuple):
    """An H.264 packet of PyAV: ms since its segment's start, and the packet."""

    time_ms: int
    packet: Any


class TimedSamples(NamedTuple):
    """Sound at 8 kHz: ms since its segment's start, and the samples."""

    time_ms: int
    samples: alaw.Samples


@dataclass(frozen=True)
class TimelineSegment:
    """A segment's position in a clip.

    Args:
        path: The segment's file.
        at_ms: Its start, from the start of the clip's first segment.
        duration_ms: Its duration.
        unix_ms: Wall clock at its start; 0 when unknown.
        line: Its line in the manifest.
        fault: Why it is not shown; empty when it is.
        parameter_sets: H.264 parameter sets; empty for other codecs, and where pictures are reordered.
        header: Its header; None with a fault.
        last_picture_ms: Time of its last picture: its sound may continue into the next segment, whose picture is late.
    """

    path: Path
    at_ms: int
    duration_ms: int
    unix_ms: int
    line: ManifestLine
    fault: str = ""
    parameter_sets: bytes = b""
    header: clip.SegmentHeader | None = None
    last_picture_ms: int = 0

    @property
    def stem(self) -> str:
        """Boot and step."""
        return self.path.stem

    @property
    def end_ms(self) -> int:
        """Its end, from the start of the clip."""
        return self.at_ms + self.duration_ms


def build_timeline(result: ClipVerdict, evidence: EvidenceKey) -> list[TimelineSegment]:
    """Return the segments of a clip in order. Consecutive ones lie end to end; gaps stay gaps.

    Missing, unreadable and altered segments have a fault: altered pictures are not those that were recorded.
    """
    faults = {f.where: f.words for f in result.findings if f.grade == TAMPERED or f.kind in ("missing", "thinned")}
    listed = {manifest.segment_file(line) for line in result.manifest.listed}
    timeline: list[TimelineSegment] = []
    for line in result.manifest.segments:
        path = result.folder / manifest.segment_file(line)
        at_ms = 0
        if timeline:
            previous = timeline[-1]
            at_ms = previous.at_ms + _distance_ms(previous, line, _is_adjacent(previous.stem, path.stem, listed))
        timeline.append(_timeline_segment(path, at_ms, line, faults.get(path.name, ""), evidence))
    return timeline


def _timeline_segment(path: Path, at_ms: int, line: ManifestLine, fault: str, evidence: EvidenceKey) -> TimelineSegment:
    duration_ms = min(line["ms"], segment.DURATION_MS_MAX)
    if at_ms + segment.DURATION_MS_MAX > _CLIP_MAX_MS:
        fault = fault or "the segment is hours after the clip's start, which is not possible"
        return TimelineSegment(path, _CLIP_MAX_MS, 0, line["start_ms"], line, fault, last_picture_ms=duration_ms)
    if not fault:
        try:
            content = segment.read(path, evidence, line["sha256"])
            duration_ms = max(duration_ms, content.end_ms)
            return TimelineSegment(
                path,
                at_ms,
                duration_ms,
                line["start_ms"],
                line,
                "",
                _parameter_sets(content),
                content.header,
                _last_picture_ms(content),
            )
        except UserError as e:
            fault = str(e).removeprefix(f"{path}: ")
    return TimelineSegment(path, at_ms, duration_ms, line["start_ms"], line, fault, last_picture_ms=duration_ms)


def clip_duration_ms(timeline: list[TimelineSegment]) -> int:
    """Return the time from the start of the first segment to the end of the last one."""
    return timeline[-1].end_ms if timeline else 0


def locate_events(result: ClipVerdict, timeline: list[TimelineSegment]) -> list[ClipEvent]:
    """Return the events that the manifest marks. A mark may name a picture; then its wall clock gives its position."""
    events = []
    for mark in result.manifest.marks:
        entry = next((entry for entry in timeline if entry.stem >= mark["seg"]), None)
        if entry is not None:
            offset_ms = mark["at_ms"]
            if entry.stem != mark["seg"]:
                offset_ms = mark["time_ms"] - entry.unix_ms if mark["time_ms"] and entry.unix_ms else 0
                offset_ms = offset_ms if abs(offset_ms) < _EVENT_DISTANCE_MAX_MS else 0
            events.append(ClipEvent(entry.at_ms + offset_ms, mark["mark"]))
    return events


def _distance_ms(previous: TimelineSegment, line: ManifestLine, adjacent: bool) -> int:
    """Return the ms from the start of a segment to that of the next one: by the clock, unless that was set."""
    if previous.unix_ms and line["start_ms"]:
        clock_ms: int = line["start_ms"] - previous.unix_ms
        gap_max_ms = _CLOCK_TOLERANCE_MS if adjacent and previous.line["whole"] else _GAP_MAX_MS
        gap_ms = clock_ms - previous.duration_ms
        if previous.last_picture_ms < clock_ms and -_CLOCK_TOLERANCE_MS <= gap_ms <= gap_max_ms:
            return clock_ms
    return previous.duration_ms


def _last_picture_ms(content: Segment) -> int:
    """Return the time of a segment's last picture; 0 when there is none."""
    if content.header.codec == clip.H264_MP4:
        return max((packet.time_ms for packet in h264_packets(content)), default=0)
    return max((jpeg.time_ms for jpeg in content.jpegs()), default=0)


def _is_adjacent(a: str, b: str, listed: set[str]) -> bool:
    """Return whether every step between two segments is listed: pictures may be between them."""
    between = range(int(a[7:13]) + 1, int(b[7:13]))
    return a[:6] == b[:6] and all(clip.segment_name(int(a[:6]), step) in listed for step in between)


def _parameter_sets(content: Segment) -> bytes:
    """Return the H.264 parameter sets; nothing for other codecs, and where pictures are reordered (B-frames)."""
    if content.header.codec != clip.H264_MP4:
        return b""
    try:
        with _open_container(content) as container:
            context = container.streams.video[0].codec_context
            return b"" if context.has_b_frames else bytes(context.extradata or b"")
    except (av.error.FFmpegError, IndexError):
        return b""


def read_segments(timeline: list[TimelineSegment], evidence: EvidenceKey) -> Iterator[tuple[TimelineSegment, Segment]]:
    """Yield each segment that can be shown with its content, one in memory at a time."""
    for entry in timeline:
        if not entry.fault:
            yield entry, segment.read(entry.path, evidence, entry.line["sha256"])


def pictures(content: Segment) -> Iterator[TimedPicture]:
    """Yield the pictures of a segment that can be decoded."""
    if content.header.codec == clip.H264_MP4:
        yield from _h264_pictures(content)
        return
    for jpeg in content.jpegs():
        try:
            picture = Image.open(io.BytesIO(jpeg.data), formats=("JPEG",))
            if picture.width * picture.height <= _PIXELS_MAX:
                yield TimedPicture(jpeg.time_ms, picture.convert("RGB").copy)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue


def _h264_pictures(content: Segment) -> Iterator[TimedPicture]:
    try:
        with _open_container(content) as container:
            container.streams.video[0].codec_context.options = {"max_pixels": str(_PIXELS_MAX)}
            for frame in itertools.islice(container.decode(video=0), segment.RECORDS_MAX):
                time_ms = _time_ms(frame)
                if time_ms is not None:
                    yield TimedPicture(time_ms, frame.to_image)
    except (av.error.FFmpegError, IndexError):
        return


def h264_packets(content: Segment) -> Iterator[TimedPacket]:
    """Yield the H.264 packets of a segment as far as they can be read."""
    try:
        with _open_container(content) as container:
            for packet in itertools.islice(container.demux(container.streams.video[0]), segment.RECORDS_MAX):
                time_ms = _time_ms(packet)
                if time_ms is not None and packet.size:
                    yield TimedPacket(time_ms, packet)
    except (av.error.FFmpegError, IndexError):
        return


def sound_of(content: Segment) -> Iterator[TimedSamples]:
    """Yield the sound of a segment as far as it can be decoded."""
    if content.header.codec == clip.MJPEG_AVI:
        position = 0
        for data in content.alaw():
            yield TimedSamples(position * 1000 // SAMPLE_RATE_HZ, alaw.decode(data))
            position += len(data)
    elif content.header.codec == clip.H264_MP4:
        resampler: Any = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
        try:
            with _open_container(content) as container:
                for frame in container.decode(audio=0) if container.streams.audio else ():
                    for resampled in resampler.resample(frame):
                        time_ms = _time_ms(resampled)
                        if time_ms is not None:
                            yield TimedSamples(time_ms, np.asarray(resampled.to_ndarray()[0], np.int16))
        except (av.error.FFmpegError, IndexError):
            return


def _open_container(content: Segment) -> Any:
    """Open the MP4 file in a segment; av.error.FFmpegError when it is not one."""
    return av.open(io.BytesIO(content.media_file()), format="mp4")


def _time_ms(item: Any) -> int | None:
    """Return the time of a PyAV packet or frame in its segment; None when it has no possible one."""
    if item.pts is None or not item.time_base:
        return None
    time_ms = round(item.pts * item.time_base * 1000)
    return time_ms if 0 <= time_ms <= segment.DURATION_MS_MAX else None


def unix_ms(entry: TimelineSegment, content: Segment, time_ms: int) -> int | None:
    """Return the wall clock at a time of a segment; None when the device did not know it."""
    n = bisect.bisect_right(content.synced_clocks, time_ms, key=lambda clock: clock.time_ms)
    if n:
        clock = content.synced_clocks[n - 1]
        return clock.unix_ms + time_ms - clock.time_ms
    return entry.unix_ms + time_ms if entry.unix_ms else None
