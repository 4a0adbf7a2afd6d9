"""Tracks: CSV and GPX files as points in time."""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.text import plural

EARTH_RADIUS_M = 6371008.8  # mean radius (IUGG)
_STEP_MIN_M = 0.05  # below it, the course of a step is noise
Number = TypeVar("Number", int, float)
# Optional columns of a file, with their possible range.
_OPTIONAL: dict[str, tuple[float, float]] = {
    "alt_m": (-1000, 100_000),
    "speed_mps": (0, 10_000),
    "course_deg": (-360, 360),
    "hacc_m": (0, 1_000_000),
    "sats": (0, 1000),
    "battery_pct": (0, 100),
}
# The other columns that `decode --format csv` writes are accepted too, and ignored.
_KNOWN = {
    "time",
    "lat_deg",
    "lon_deg",
    *_OPTIONAL,
    "mode",
    "date_suspect",
    "estimated",
    "differential",
    "device",
    "counter",
}


@dataclass(frozen=True)
class TrackPoint:
    """One point of a track; None where the file has no value.

    Args:
        time_ms: unix time, ms.
        lat_deg: latitude, degrees, WGS 84.
        lon_deg: longitude, degrees, WGS 84.
        alt_m: altitude above mean sea level, m.
        speed_mps: speed over ground, m/s.
        course_deg: course over ground, degrees from true north.
        hacc_m: horizontal accuracy, m.
        sats: satellites used.
        battery_pct: state of charge, per cent.
    """

    time_ms: int
    lat_deg: float
    lon_deg: float
    alt_m: float | None
    speed_mps: float | None
    course_deg: float | None
    hacc_m: float | None = None
    sats: float | None = None
    battery_pct: float | None = None


def read(path: Path) -> list[TrackPoint]:
    """Return the points of a .csv or .gpx file; speed and course are computed where the file has none.

    Raises:
        UserError: see `read_points`.
    """
    return _with_motion(read_points(path))


def read_points(path: Path) -> list[TrackPoint]:
    """Return the points of a .csv or .gpx file, in the file's order.

    Raises:
        UserError: the file cannot be used; the message names the wrong line or point.
    """
    try:
        if path.suffix.lower() == ".csv":
            points = list(_read_csv(path))
        elif path.suffix.lower() == ".gpx":
            points = list(_read_gpx(path))
        else:
            raise UserError(f"{path}: a track is a .csv or .gpx file; for NMEA use --log")
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a readable track") from None
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path}: not comma-separated text: {e}") from None
    if not points:
        raise UserError(f"{path}: no point has a time; a patrol needs times")
    return points


def _read_csv(path: Path) -> Iterator[TrackPoint]:
    with path.open(encoding="utf-8", newline="") as f:
        reader = csv.DictReader(f)
        missing = {"time", "lat_deg", "lon_deg"} - set(reader.fieldnames or ())
        if missing:
            raise UserError(
                f"{path}: no column {', '.join(sorted(missing))}; columns are time,lat_deg,lon_deg,alt_m,speed_mps"
            )
        unknown = [name for name in reader.fieldnames or () if name and name not in _KNOWN]
        if unknown:
            notes.note(f"note: {path}: unknown columns are ignored: {', '.join(unknown)}")
        without_fix = 0
        for row in reader:
            if not row["lat_deg"] and not row["lon_deg"]:
                without_fix += 1
                continue
            try:
                yield _checked(
                    _cell(row, "time", time_ms),
                    _cell(row, "lat_deg", float),
                    _cell(row, "lon_deg", float),
                    *(_cell(row, name, float) if row.get(name) else None for name in _OPTIONAL),
                )
            except ValueError as e:
                raise UserError(f"{path}, line {reader.line_num}: {e}; correct the line") from None
        if without_fix:
            notes.note(f"note: {path}: {plural(without_fix, 'row')} without a position ignored")


def _cell(row: dict[str, str | None], column: str, convert: Callable[[str], Number]) -> Number:
    try:
        return convert(row[column] or "")
    except (ValueError, OverflowError) as e:
        raise ValueError(f"column {column}: {e}") from None


def _checked(time_ms: int, lat: float, lon: float, *optional: float | None) -> TrackPoint:
    """Return a point with possible values. Raises ValueError that names the impossible one."""
    limits = [("lat_deg", lat, (-90, 90)), ("lon_deg", lon, (-180, 180))]
    for column, value, (low, high) in [*limits, *zip(_OPTIONAL, optional, _OPTIONAL.values(), strict=False)]:
        if value is not None and not low <= value <= high:
            raise ValueError(f"column {column}: {value:g} is outside {low}..{high}")
    return TrackPoint(time_ms, lat, lon, *optional)


def _read_gpx(path: Path) -> Iterator[TrackPoint]:
    import gpxpy.gpx  # of the extra "report"; without GPX files nobody needs it

    try:
        parsed = gpxpy.parse(path.read_text(encoding="utf-8"))
    except (gpxpy.gpx.GPXException, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not GPX: {e}") from None
    for track in parsed.tracks:
        for segment in track.segments:
            for p in segment.points:
                if p.time is None:
                    continue
                try:
                    yield _checked(_unix_ms(p.time), p.latitude, p.longitude, p.elevation, p.speed, p.course)
                except ValueError as e:
                    raise UserError(f"{path}, point of {p.time.isoformat()}: {e}; correct the point") from None


def time_ms(text: str) -> int:
    """Return RFC 3339 as unix milliseconds; without an offset it is UTC. Raises ValueError for any other text."""
    return _unix_ms(datetime.fromisoformat(text.replace("Z", "+00:00")))


def _unix_ms(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1000)


def _with_motion(points: list[TrackPoint]) -> list[TrackPoint]:
    """Fill in speed and course over ground where the file has none."""
    completed = []
    for i, p in enumerate(points):
        a, b = (points[i - 1], p) if i else (p, points[min(1, len(points) - 1)])
        speed, course = motion(b.lat_deg - a.lat_deg, b.lon_deg - a.lon_deg, p.lat_deg, b.time_ms - a.time_ms)
        speed = speed if p.speed_mps is None else p.speed_mps
        course = course if p.course_deg is None else p.course_deg
        completed.append(replace(p, speed_mps=speed, course_deg=course))
    return completed


def motion(north_deg: float, east_deg: float, lat_deg: float, time_ms: int) -> tuple[float | None, float | None]:
    """Return speed and course of a step from one position to the next.

    The Earth is a sphere of its mean radius: the error is up to 0.5 %, less than that of a receiver's positions.

    Args:
        north_deg: change of latitude, degrees.
        east_deg: change of longitude, degrees; it may cross the antimeridian.
        lat_deg: latitude of the step.
        time_ms: duration of the step.

    Returns:
        Speed in m/s, None if the step takes no time; course in degrees from true north, None if it covers no distance.
    """
    north = math.radians(north_deg) * EARTH_RADIUS_M
    east = math.radians((east_deg + 180) % 360 - 180) * EARTH_RADIUS_M * math.cos(math.radians(lat_deg))
    metres = math.hypot(north, east)
    speed = metres / time_ms * 1000 if time_ms > 0 else None
    return speed, math.degrees(math.atan2(east, north)) % 360 if metres > _STEP_MIN_M else None
