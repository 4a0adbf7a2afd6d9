"""Write rows as text files for other programs. All writers but jsonl ignore rows that are no positions."""

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TextIO

from patrolink.core.decoder import POSITION_COLUMNS, Row
from patrolink.core.text import csv_cell, json_text


def positions(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows that are positions."""
    yield from (row for row in rows if row["record"] == "position")


def write_jsonl(rows: Iterable[Row], out: TextIO) -> None:
    """Write every row as a line of JSON; unprintable characters are escaped."""
    for row in rows:
        out.write(json_text(row) + "\n")


def write_csv(rows: Iterable[Row], out: TextIO) -> None:
    """Write positions as CSV; an empty cell means unknown. A device id that begins with "-" gets an apostrophe."""
    writer = csv.DictWriter(out, POSITION_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "device": csv_cell(row["device"])} for row in positions(rows))


def write_geojson(rows: Iterable[Row], out: TextIO) -> None:
    """Write a FeatureCollection (RFC 7946): a LineString per device, then a Point per position with its properties."""
    lines: dict[str, list[list[float]]] = {}
    points = []
    for row in positions(rows):
        if row["lat_deg"] is None:
            continue
        coordinates = [row["lon_deg"], row["lat_deg"]] + ([row["alt_m"]] if row["alt_m"] is not None else [])
        lines.setdefault(row["device"], []).append(coordinates)
        properties = {k: v for k, v in row.items() if k not in ("record", "lat_deg", "lon_deg", "alt_m")}
        points.append(
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": coordinates}, "properties": properties}
        )
    # A LineString has at least two positions (RFC 7946, 3.1.4).
    tracks = [
        {"type": "Feature", "geometry": {"type": "LineString", "coordinates": line}, "properties": {"device": device}}
        for device, line in lines.items()
        if len(line) > 1
    ]
    out.write(json_text({"type": "FeatureCollection", "features": tracks + points}) + "\n")


def write_gpx(rows: Iterable[Row], out: TextIO) -> None:
    """Write GPX 1.1 with a track per device."""
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
    "jsonl": write_jsonl,
    "csv": write_csv,
    "geojson": write_geojson,
    "gpx": write_gpx,
}
