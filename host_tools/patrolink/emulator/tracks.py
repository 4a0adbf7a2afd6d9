"""Tracks: CSV and GPX files as points in time."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import gpxpy
import gpxpy.gpx

from patrolink.errors import UserError


@dataclass(frozen=True)
class Point:
    """A moment of a walk: unix milliseconds, degrees, metres, m/s; None where the file does not tell."""

    time_ms: int
    lat_deg: float
    lon_deg: float
    alt_m: float | None
    speed_mps: float | None
    course_deg: float | None


def read(path: Path) -> list[Point]:
    """Return the points of a .csv or .gpx file, in the file's order; UserError names the line that is wrong."""
    try:
        if path.suffix.lower() == ".csv":
            points = list(_csv(path))
        elif path.suffix.lower() == ".gpx":
            points = list(_gpx(path))
        else:
            raise UserError(f"{path}: a track is a .csv or .gpx file; for NMEA use --log")
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a track with --track") from None
    if not points:
        raise UserError(f"{path}: no point with a time; a patrol needs times")
    return _with_motion(points)


def _csv(path: Path) -> Iterator[Point]:
    with path.open(encoding="utf-8", newline="") as f:
        reader = csv.DictReader(f)
        missing = {"time", "lat_deg", "lon_deg"} - set(reader.fieldnames or ())
        if missing:
            raise UserError(
                f"{path}: no column {', '.join(sorted(missing))}; columns are time,lat_deg,lon_deg,alt_m,speed_mps"
            )
        for row in reader:
            try:
                yield Point(
                    _unix_ms(datetime.fromisoformat(row["time"].replace("Z", "+00:00"))),
                    _within(float(row["lat_deg"]), 90),
                    _within(float(row["lon_deg"]), 180),
                    *(float(row[c]) if row.get(c) else None for c in ("alt_m", "speed_mps", "course_deg")),
                )
            except (ValueError, TypeError, AttributeError) as e:
                raise UserError(f"{path}, line {reader.line_num}: {e}; mend the line") from None


def _gpx(path: Path) -> Iterator[Point]:
    try:
        parsed = gpxpy.parse(path.read_text(encoding="utf-8"))
    except (gpxpy.gpx.GPXException, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not GPX: {e}") from None
    for track in parsed.tracks:
        for segment in track.segments:
            for p in segment.points:
                if p.time is not None:
                    yield Point(_unix_ms(p.time), p.latitude, p.longitude, p.elevation, p.speed, p.course)


def _within(value: float, limit: float) -> float:
    if not -limit <= value <= limit:
        raise ValueError(f"{value} is outside -{limit:g}..{limit:g}")
    return value


def _unix_ms(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1000)


def _with_motion(points: list[Point]) -> list[Point]:
    """Fill in speed and course of travel where the file has none."""
    done = []
    for i, p in enumerate(points):
        a, b = (points[i - 1], p) if i else (p, points[min(1, len(points) - 1)])
        north = math.radians(b.lat_deg - a.lat_deg) * 6371008.8
        east = math.radians(b.lon_deg - a.lon_deg) * 6371008.8 * math.cos(math.radians(p.lat_deg))
        seconds = (b.time_ms - a.time_ms) / 1000
        metres = math.hypot(north, east)
        speed, course = p.speed_mps, p.course_deg
        if speed is None and seconds > 0:
            speed = metres / seconds
        if course is None and metres > 0.05:
            course = math.degrees(math.atan2(east, north)) % 360
        done.append(Point(p.time_ms, p.lat_deg, p.lon_deg, p.alt_m, speed, course))
    return done
