"""Write rows as text files for other programs. All writers but jsonl ignore rows that are no positions."""

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO
from xml.sax.saxutils import escape

from patrolink.core.decoder import POSITION_COLUMNS, Row
from patrolink.core.grouped_spool import GroupedSpool
from patrolink.core.text import csv_cell, json_text

_GPX_START = """<?xml version="1.0" encoding="UTF-8"?>
<gpx xmlns="http://www.topografix.com/GPX/1/1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.topografix.com/GPX/1/1 http://www.topografix.com/GPX/1/1/gpx.xsd" version="1.1" \
creator="patrolink">
"""


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
    """Write a FeatureCollection (RFC 7946): a LineString per device, then a Point per position with its properties.

    Memory does not grow with the number of rows: lines and points wait in temporary files.
    """
    with GroupedSpool() as lines, tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as points:
        counts: Counter[str] = Counter()
        separator = ""
        for row in positions(rows):
            if row["lat_deg"] is None:
                continue
            coordinates = [row["lon_deg"], row["lat_deg"]] + ([row["alt_m"]] if row["alt_m"] is not None else [])
            lines.append(row["device"], (", " if row["device"] in lines else "") + json_text(coordinates))
            counts[row["device"]] += 1
            properties = {k: v for k, v in row.items() if k not in ("record", "lat_deg", "lon_deg", "alt_m")}
            geometry = {"type": "Point", "coordinates": coordinates}
            point = json_text({"type": "Feature", "geometry": geometry, "properties": properties})
            points.write(separator + point)
            separator = ", "
        write_features(lines, counts, points, out)


def write_features(lines: GroupedSpool, counts: Counter[str], points: TextIO, out: TextIO) -> None:
    """Write a FeatureCollection.

    Args:
        lines: coordinates of each device's line.
        counts: number of these.
        points: the features of the points, with separators.
        out: the file.
    """
    start, end = json_text({"type": "FeatureCollection", "features": []}).split("]")
    out.write(start)
    # A LineString has at least two positions (RFC 7946, 3.1.4).
    for device in (device for device, count in counts.items() if count > 1):
        geometry = {"type": "LineString", "coordinates": []}
        line = json_text({"type": "Feature", "geometry": geometry, "properties": {"device": device}})
        before, after = line.split("]", 1)
        out.write(before)
        out.writelines(lines.read(device))
        out.write(f"]{after}, ")
    points.seek(0)
    shutil.copyfileobj(points, out)
    out.write(f"]{end}\n")


def write_gpx(rows: Iterable[Row], out: TextIO) -> None:
    """Write GPX 1.1 with a track per device. Memory does not grow with the number of rows."""
    with GroupedSpool() as tracks:
        for row in positions(rows):
            if row["lat_deg"] is not None:
                tracks.append(row["device"], _gpx_point(row))
        write_tracks(tracks, out)


def write_tracks(tracks: GroupedSpool, out: TextIO) -> None:
    """Write a GPX file with the points of each device's track."""
    out.write(_GPX_START)
    for device in tracks:
        out.write(f"  <trk>\n    <name>{escape(device)}</name>\n    <trkseg>\n")
        out.writelines(tracks.read(device))
        out.write("    </trkseg>\n  </trk>\n")
    out.write("</gpx>\n")


def _gpx_point(row: Row) -> str:
    lines = [f'      <trkpt lat="{decimal(row["lat_deg"])}" lon="{decimal(row["lon_deg"])}">\n']
    if row["alt_m"] is not None:
        lines.append(f"        <ele>{decimal(row['alt_m'])}</ele>\n")
    if row["time"]:
        second, _, fraction = row["time"].rstrip("Z").partition(".")
        text = second + (f".{fraction:0<6}" if int(fraction or 0) else "")
        lines.append(f"        <time>{text}Z</time>\n")
    lines.append("      </trkpt>\n")
    return "".join(lines)


def decimal(value: float) -> str:
    """Return a number without an exponent, which xsd:decimal does not have."""
    text = str(value)
    return text if "e" not in text else f"{value:.10f}".rstrip("0")


WRITERS: dict[str, Callable[[Iterable[Row], TextIO], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "geojson": write_geojson,
    "gpx": write_gpx,
}
