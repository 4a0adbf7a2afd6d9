"""Rows as files that other programs read. Writers take rows and a text stream; all but jsonl take positions only."""

import csv
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TextIO

from patrolink.core.decoder import POSITION_COLUMNS, Row


def positions(rows: Iterable[Row]) -> Iterable[Row]:
    """Only the position rows."""
    return (row for row in rows if row["message"] == "position")


def jsonl(rows: Iterable[Row], out: TextIO) -> None:
    """Every message, a JSON object a line."""
    for row in rows:
        out.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_csv(rows: Iterable[Row], out: TextIO) -> None:
    """Positions, one a line; an empty cell is unknown."""
    writer = csv.DictWriter(out, POSITION_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(positions(rows))


def geojson(rows: Iterable[Row], out: TextIO) -> None:
    """An RFC 7946 FeatureCollection: a LineString a device, then a Point a position with its properties."""
    lines: dict[str, list[list[float]]] = {}
    points = []
    for row in positions(rows):
        if row["lat_deg"] is None:
            continue
        place = [row["lon_deg"], row["lat_deg"]] + ([row["alt_m"]] if row["alt_m"] is not None else [])
        lines.setdefault(row["device"], []).append(place)
        properties = {k: v for k, v in row.items() if k not in ("message", "lat_deg", "lon_deg", "alt_m")}
        points.append(
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": place}, "properties": properties}
        )
    # A LineString has two positions at least (3.1.4).
    tracks = [
        {"type": "Feature", "geometry": {"type": "LineString", "coordinates": line}, "properties": {"device": device}}
        for device, line in lines.items()
        if len(line) > 1
    ]
    json.dump({"type": "FeatureCollection", "features": tracks + points}, out)
    out.write("\n")


def gpx(rows: Iterable[Row], out: TextIO) -> None:
    """A GPX 1.1 track a device."""
    from gpxpy.gpx import GPX, GPXTrack, GPXTrackPoint, GPXTrackSegment

    document = GPX()
    document.creator = "patrolink"
    segments: dict[str, GPXTrackSegment] = {}
    for row in positions(rows):
        if row["lat_deg"] is None:
            continue
        device = row["device"]
        if device not in segments:
            track = GPXTrack(name=device)
            segments[device] = GPXTrackSegment()
            track.segments.append(segments[device])
            document.tracks.append(track)
        when = datetime.fromisoformat(row["time"].replace("Z", "+00:00")) if row["time"] else None
        segments[device].points.append(GPXTrackPoint(row["lat_deg"], row["lon_deg"], row["alt_m"], when))
    out.write(document.to_xml("1.1"))
    out.write("\n")


WRITERS: dict[str, Callable[[Iterable[Row], TextIO], None]] = {
    "jsonl": jsonl,
    "csv": write_csv,
    "geojson": geojson,
    "gpx": gpx,
}
