"""Metadata of a clip: wall clock, positions, and the subtitles made of them. Times are in ms from the clip's start."""

import bisect
from dataclasses import dataclass, field
from typing import NamedTuple

from patrolink.core.decoder import Row, rfc3339
from patrolink.evidence import timeline
from patrolink.evidence.segment import FixRecord, Segment
from patrolink.evidence.timeline import TimelineSegment

_FIX_AGE_MAX_MS = 3000  # an older position is not shown
_SUBTITLE_MS = 1000


class Subtitle(NamedTuple):
    """A subtitle: start and end in ms of the film, and its text."""

    start_ms: int
    end_ms: int
    text: str


class RecordedSpan(NamedTuple):
    """A time that was recorded, and the wall clock at its start or None."""

    start_ms: int
    end_ms: int
    unix_ms: int | None


class HiddenSpan(NamedTuple):
    """A time that was recorded and is not shown, with the reason."""

    start_ms: int
    end_ms: int
    reason: str


class TimedFix(NamedTuple):
    """A position and its time in the clip."""

    at_ms: int
    fix: FixRecord


@dataclass
class ClipMetadata:
    """What the segments of a clip hold besides pictures and sound.

    Args:
        device: The device that recorded the clip.
        spans: What was recorded, by time.
        fixes: Positions, in the order of the segments.
        clock_sources: What the wall clock was set by: clip.CLOCK_NONE, CLOCK_NETWORK, CLOCK_GPS.
        clock_errors_ms: The device's clock minus GPS time, at each position.
        hidden: What is not shown, by time.
        stamp: First line of each subtitle; empty for none.
    """

    device: str
    spans: list[RecordedSpan] = field(default_factory=list)
    fixes: list[TimedFix] = field(default_factory=list)
    clock_sources: set[int] = field(default_factory=set)
    clock_errors_ms: list[int] = field(default_factory=list)
    hidden: list[HiddenSpan] = field(default_factory=list)
    stamp: str = ""

    @property
    def valid_fixes(self) -> list[TimedFix]:
        """The positions with a latitude and longitude."""
        return [timed for timed in self.fixes if timed.fix.lat_deg is not None]

    def add(self, entry: TimelineSegment, content: Segment) -> None:
        """Add a segment."""
        end_ms = max(entry.duration_ms, content.end_ms, 1)  # a photo has a duration too
        cuts = [0, *(clock.time_ms for clock in content.clocks if 0 < clock.time_ms < end_ms), end_ms]
        for start, end in zip(cuts, cuts[1:], strict=False):
            unix_ms = timeline.unix_ms(entry, content, start)
            self.spans.append(RecordedSpan(entry.at_ms + start, entry.at_ms + end, unix_ms))
        self.clock_sources |= {clock.source for clock in content.clocks}
        for fix in content.fixes:
            self.fixes.append(TimedFix(entry.at_ms + fix.time_ms, fix))
            clock_ms = timeline.unix_ms(entry, content, fix.time_ms)
            if clock_ms is not None and fix.unix_ms is not None:
                self.clock_errors_ms.append(clock_ms - fix.unix_ms)

    def unix_ms(self, at_ms: int) -> int | None:
        """Return the wall clock at a time of the clip; None when it is unknown or nothing was recorded then."""
        n = bisect.bisect_right(self.spans, at_ms, key=_start_ms)
        if not n:
            return None
        span = self.spans[n - 1]
        return span.unix_ms + at_ms - span.start_ms if span.unix_ms is not None and at_ms < span.end_ms else None

    def rows(self) -> list[Row]:
        """Return the positions as rows of a decoded capture, for the writers of track formats."""
        return [
            {
                "record": "position",
                "time": rfc3339(fix.unix_ms),
                "lat_deg": fix.lat_deg,
                "lon_deg": fix.lon_deg,
                "alt_m": fix.alt_m,
                "speed_mps": fix.speed_mps,
                "course_deg": fix.course_deg,
                "hacc_m": fix.hacc_m,
                "mode": fix.mode,
                "device": self.device,
            }
            for _, fix in self.fixes
        ]

    def subtitles(self, start_ms: int, end_ms: int) -> list[Subtitle]:
        """Return time and position for each second of a film that shows start_ms to end_ms of the clip."""
        subtitles: list[Subtitle] = []
        fixes = sorted(self.fixes, key=_at_ms)
        for at_ms in range(start_ms, end_ms, _SUBTITLE_MS):
            until_ms = min(at_ms + _SUBTITLE_MS, end_ms)
            n = bisect.bisect_left(self.spans, until_ms, key=_start_ms)
            if n and self.spans[n - 1].end_ms > at_ms:
                text = f"{self._format_time(at_ms)}\n{_format_last_fix(fixes, at_ms)}"
            else:
                text = self._format_reason(at_ms, until_ms)
            text = f"{self.stamp}\n{text}" if self.stamp else text
            if subtitles and subtitles[-1].text == text:
                subtitles[-1] = Subtitle(subtitles[-1].start_ms, until_ms - start_ms, text)
            else:
                subtitles.append(Subtitle(at_ms - start_ms, until_ms - start_ms, text))
        return subtitles

    def _format_reason(self, at_ms: int, until_ms: int) -> str:
        n = bisect.bisect_left(self.hidden, until_ms, key=_start_ms)
        if n and self.hidden[n - 1].end_ms > at_ms:
            return f"not shown: {self.hidden[n - 1].reason}"
        return "not recorded"

    def _format_time(self, at_ms: int) -> str:
        time = rfc3339(self.unix_ms(at_ms))
        return f"{time[:10]} {time[11:23]} UTC" if time else "time unknown"


def _start_ms(span: RecordedSpan | HiddenSpan) -> int:
    return span.start_ms


def _at_ms(timed: TimedFix) -> int:
    return timed.at_ms


def _format_last_fix(fixes: list[TimedFix], at_ms: int) -> str:
    """Return the last position that is not too old at a time; `fixes` sorted by time."""
    n = bisect.bisect_right(fixes, at_ms + _SUBTITLE_MS // 2, key=_at_ms)
    recent = n and fixes[n - 1].at_ms > at_ms - _FIX_AGE_MAX_MS
    return _format_fix(fixes[n - 1].fix) if recent else "no position"


def _format_fix(fix: FixRecord) -> str:
    if fix.lat_deg is None or fix.lon_deg is None:
        return "no position"
    parts = [f"{fix.lat_deg:.6f} {fix.lon_deg:.6f}"]
    if fix.hacc_m is not None:
        parts.append(f"±{fix.hacc_m:.0f} m")
    if fix.speed_mps is not None:
        parts.append(f"{fix.speed_mps * 3.6:.1f} km/h")
    return "  ".join(parts)


def format_srt(subtitles: list[Subtitle]) -> str:
    """Return subtitles in SubRip format."""
    blocks = [
        f"{n}\n{_srt_time(subtitle.start_ms)} --> {_srt_time(subtitle.end_ms)}\n{subtitle.text}\n"
        for n, subtitle in enumerate(subtitles, 1)
    ]
    return "\n".join(blocks)


def _srt_time(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"
