"""What a clip's segments tell beside pictures and sound: when it was, and where the device was."""

import bisect
from dataclasses import dataclass, field
from typing import Any

from patrolink.core.decoder import Row, rfc3339
from patrolink.evidence import timeline
from patrolink.evidence.movie import Line
from patrolink.evidence.segment import Fix, Segment

_FRESH_MS = 3000  # a position is shown no longer
_LINE_MS = 1000


@dataclass
class Story:
    """Times are in ms of the clip.

    spans   (from, until, unix ms of its begin or None) of what was recorded
    fixes   (when, position)
    clocks  what the wall clock was set by: clip.BY_*
    off_ms  the device's clock less GPS time, at each position
    hidden  (from, until, why) of what was recorded and is not shown; as spans, in the order of time
    stamp   what each subtitle begins with
    """

    device: str
    spans: list[tuple[int, int, int | None]] = field(default_factory=list)
    fixes: list[tuple[int, Fix]] = field(default_factory=list)
    clocks: set[int] = field(default_factory=set)
    off_ms: list[int] = field(default_factory=list)
    hidden: list[tuple[int, int, str]] = field(default_factory=list)
    stamp: str = ""

    def take(self, part: timeline.Part, it: Segment) -> None:
        """Take in a segment."""
        end_ms = max(part.ms, it.end_ms, 1)  # a photo has a time too
        cuts = [0, *(at for at, _, _ in it.clocks if 0 < at < end_ms), end_ms]
        for begin, end in zip(cuts, cuts[1:], strict=False):
            self.spans.append((part.at_ms + begin, part.at_ms + end, timeline.unix_ms(part, it, begin)))
        self.clocks |= {source for _, _, source in it.clocks}
        for fix in it.fixes:
            self.fixes.append((part.at_ms + fix.time_ms, fix))
            now_ms = timeline.unix_ms(part, it, fix.time_ms)
            if now_ms is not None and fix.unix_ms is not None:
                self.off_ms.append(now_ms - fix.unix_ms)

    def unix_ms(self, at_ms: int) -> int | None:
        """Return the wall clock at a time of the clip; None when it is not known or nothing was recorded then."""
        n = bisect.bisect_right(self.spans, at_ms, key=_begin)
        begin, end, unix_ms = self.spans[n - 1] if n else (0, 0, None)
        return unix_ms + at_ms - begin if unix_ms is not None and at_ms < end else None

    def rows(self) -> list[Row]:
        """Return the positions as rows of a decoded capture, for what writes those."""
        return [
            {
                "message": "position",
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

    def lines(self, start_ms: int, end_ms: int) -> list[Line]:
        """Return a subtitle for each second of a film that begins at start_ms of the clip: time and place."""
        out: list[Line] = []
        placed = sorted(self.fixes, key=_begin)
        for at_ms in range(start_ms, end_ms, _LINE_MS):
            until = min(at_ms + _LINE_MS, end_ms)
            n = bisect.bisect_left(self.spans, until, key=_begin)
            if n and self.spans[n - 1][1] > at_ms:
                text = f"{self._when(at_ms)}\n{_where(placed, at_ms)}"
            else:
                text = self._why(at_ms, until)
            text = f"{self.stamp}\n{text}" if self.stamp else text
            if out and out[-1].text == text:
                out[-1] = Line(out[-1].start_ms, until - start_ms, text)
            else:
                out.append(Line(at_ms - start_ms, until - start_ms, text))
        return out

    def _why(self, at_ms: int, until_ms: int) -> str:
        n = bisect.bisect_left(self.hidden, until_ms, key=_begin)
        shut = n and self.hidden[n - 1][1] > at_ms
        return f"not shown: {self.hidden[n - 1][2]}" if shut else "nothing was recorded here"

    def _when(self, at_ms: int) -> str:
        told = rfc3339(self.unix_ms(at_ms))
        return f"{told[:10]} {told[11:23]} UTC" if told else "time not known"


def _begin(it: tuple[int, Any] | tuple[int, int, Any]) -> int:
    return it[0]


def _where(placed: list[tuple[int, Fix]], at_ms: int) -> str:
    """Return the last position that is fresh then; `placed` in the order of time."""
    n = bisect.bisect_right(placed, at_ms + _LINE_MS // 2, key=_begin)
    fresh = n and placed[n - 1][0] > at_ms - _FRESH_MS
    return words(placed[n - 1][1]) if fresh else "no position"


def words(fix: Fix) -> str:
    """Return a position for people."""
    if fix.lat_deg is None or fix.lon_deg is None:
        return "no position"
    parts = [f"{fix.lat_deg:.6f} {fix.lon_deg:.6f}"]
    if fix.hacc_m is not None:
        parts.append(f"±{fix.hacc_m:.0f} m")
    if fix.speed_mps is not None:
        parts.append(f"{fix.speed_mps * 3.6:.1f} km/h")
    return "  ".join(parts)
