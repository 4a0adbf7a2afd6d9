"""NMEA as a receiver sends it, from track points or from a recorded log: one block of bytes per epoch."""

import functools
import operator
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from patrolink.core.errors import UserError
from patrolink.core.tracks import TrackPoint

_TIMED = re.compile(rb"^\$..(?:RMC|GGA|GNS|ZDA),(\d{6}(?:\.\d*)?),", re.M)
_ANY = re.compile(rb"^\$[A-Z]{2}([A-Z]{3}),", re.M)
_KNOT = 1852 / 3600
_DAY_S = 86400


def _checksum(body: bytes) -> int:
    return functools.reduce(operator.xor, body, 0)


def sentence(body: str) -> bytes:
    """Return a sentence with dollar sign, checksum and line end (IEC 61162-1, 7.2)."""
    return f"${body}*{_checksum(body.encode()):02X}\r\n".encode()


def _angle(value: float, width: int, letters: str) -> str:
    """Format an angle as ddmm.mmmmmm; a millionth of a minute is 2 mm."""
    micro = round(abs(value) * 60_000_000)
    degrees, rest = divmod(micro, 60_000_000)
    return f"{degrees:0{width}d}{rest // 1_000_000:02d}.{rest % 1_000_000:06d},{letters[value < 0]}"


@functools.lru_cache(maxsize=8)
def _moment(time_ms: int) -> tuple[bytes, bytes, int, int]:
    """Return time of day and date of a sentence, and the checksum of each."""
    moment = datetime.fromtimestamp(time_ms // 1000, timezone.utc)
    clock, date = f"{moment:%H%M%S}.{time_ms % 1000:03d}".encode(), f"{moment:%d%m%y}".encode()
    return clock, date, _checksum(clock), _checksum(date)


class Epoch:
    """The RMC, GGA, GSA and VTG sentences of a point, at any time.

    Args:
        p: The point; its time is not used.
    """

    def __init__(self, p: TrackPoint) -> None:
        position = f"{_angle(p.lat_deg, 2, 'NS')},{_angle(p.lon_deg, 3, 'EW')}"
        knots = "" if p.speed_mps is None else f"{p.speed_mps / _KNOT:.3f}"
        course = "" if p.course_deg is None else f"{p.course_deg % 360:.2f}"
        altitude = "" if p.alt_m is None else f"{p.alt_m:.2f}"
        mode = 2 if p.alt_m is None else 3
        kmh = "" if p.speed_mps is None else f"{p.speed_mps * 3.6:.3f}"
        rmc = f"GNRMC,%b,A,{position},{knots},{course},%b,,,A,V"
        gga = f"GNGGA,%b,{position},1,09,0.90,{altitude},M,,M,,"
        untimed = sentence(f"GNGSA,A,{mode},04,07,08,09,16,21,27,30,31,,,,1.60,0.90,1.30,1")
        untimed += sentence(f"GNVTG,{course},T,,M,{knots},N,{kmh},K,A")
        self._format = f"${rmc}*%02X\r\n${gga}*%02X\r\n".encode() + untimed
        self._rmc_sum, self._gga_sum = (_checksum(body.replace("%b", "").encode()) for body in (rmc, gga))

    def at(self, time_ms: int) -> bytes:
        """Return the sentences for a unix time in milliseconds."""
        clock, date, clock_sum, date_sum = _moment(time_ms)
        rmc_sum = self._rmc_sum ^ clock_sum ^ date_sum
        return self._format % (clock, date, rmc_sum, clock, self._gga_sum ^ clock_sum)


def epoch(p: TrackPoint) -> bytes:
    """Return the RMC, GGA, GSA and VTG sentences of a point."""
    return Epoch(p).at(p.time_ms)


def speak(points: Iterable[TrackPoint]) -> Iterator[tuple[float, bytes]]:
    """Yield each point as (seconds since the first point, bytes)."""
    start = None
    for p in points:
        start = p.time_ms if start is None else start
        yield (p.time_ms - start) / 1000, epoch(p)


def replay(path: Path) -> list[tuple[float, bytes]]:
    """Return the epochs of a log as (seconds since the first timed sentence, bytes), unmodified.

    A log without any time of day (a receiver that never had a fix) plays one epoch per second.

    Raises:
        UserError: The file cannot be read or holds no NMEA.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a readable log with --log") from None
    cuts = []
    last = b""
    for match in _TIMED.finditer(data):
        if match.group(1) != last:
            last = match.group(1)
            cuts.append((match.start(), _seconds(last)))
    if not cuts:
        cuts = _untimed(data)
    if not cuts:
        raise UserError(f"{path}: no NMEA sentence in it; name an NMEA 0183 log with --log")
    epochs = []
    elapsed = 0.0
    for i, (start, at) in enumerate(cuts):
        if i:
            # At midnight the time of day falls back by a day; after any other jump backwards the log continues at once.
            step = at - cuts[i - 1][1]
            elapsed += step + _DAY_S if step < -_DAY_S / 2 else max(step, 0.0)
        end = cuts[i + 1][0] if i + 1 < len(cuts) else len(data)
        epochs.append((elapsed, data[0 if i == 0 else start : end]))
    return epochs


def _untimed(data: bytes) -> list[tuple[int, float]]:
    """Split at each repetition of the first sentence type."""
    matches = list(_ANY.finditer(data))
    starts = [match.start() for match in matches if match.group(1) == matches[0].group(1)]
    return [(start, float(second)) for second, start in enumerate(starts)]


def _seconds(clock: bytes) -> float:
    return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + float(clock[4:])
