"""Write positions as GeoJSON and GPX, block by block: the same text as `formats`, many times as fast."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TextIO

from patrolink.core.decoder import FLAGS
from patrolink.core.grouped_spool import GroupedSpool
from patrolink.core.text import json_text
from patrolink.report import formats
from patrolink.report.position_csv import PART_FRAMES, value_texts
from patrolink.report.positions import PositionBlock

_STATES = 32
_MILLISECONDS = slice(20, 23)  # of 2026-01-31T12:00:00.000Z
# Properties of every state, as JSON.
_STATE_PROPERTIES = [
    json_text({"mode": state & 3, **{name: bool(state >> 2 + i & 1) for i, name in enumerate(FLAGS)}})[1:-1]
    for state in range(_STATES)
]


def write_geojson(blocks: Iterable[PositionBlock], out: TextIO) -> None:
    """Write a FeatureCollection as `formats.write_geojson` does."""
    with GroupedSpool() as lines, tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as points:
        counts: Counter[str] = Counter()
        separator = ""
        for part in _parts(blocks):
            coordinates = _coordinates(part)
            features = _features(part, coordinates)
            for device, frame in _frames(part):
                known = list(filter(None, coordinates[frame]))
                if known:
                    lines.append(device, (", " if device in lines else "") + ", ".join(known))
                    counts[device] += len(known)
            text = ", ".join(filter(None, features))
            if text:
                points.write(separator + text)
                separator = ", "
        formats.write_features(lines, counts, points, out)


def write_gpx(blocks: Iterable[PositionBlock], out: TextIO) -> None:
    """Write GPX 1.1 as `formats.write_gpx` does."""
    with GroupedSpool() as tracks:
        for part in _parts(blocks):
            points = _track_points(part)
            for device, frame in _frames(part):
                text = "".join(points[frame])
                if text:
                    tracks.append(device, text)
        formats.write_tracks(tracks, out)


def _parts(blocks: Iterable[PositionBlock]) -> Iterator[PositionBlock]:
    for block in blocks:
        yield from block.split(PART_FRAMES)


def _frames(part: PositionBlock) -> Iterator[tuple[str, slice]]:
    """Yield the device of each frame, and which of the positions are its."""
    start = 0
    for device, count in zip(part.devices, part.counts.tolist(), strict=True):
        yield device, slice(start, start + count)
        start += count


def _coordinates(part: PositionBlock) -> list[str]:
    """Return the coordinates of each position as JSON; "" for an unknown one."""
    texts = value_texts(part.columns)
    return [
        (f"[{lon}, {lat}, {alt}]" if alt else f"[{lon}, {lat}]") if lat else ""
        for lat, lon, alt in zip(texts["lat"], texts["lon"], texts["alt"], strict=True)
    ]


def _features(part: PositionBlock, coordinates: list[str]) -> Iterator[str]:
    """Yield the Point of each position; "" for an unknown one."""
    texts = value_texts(part.columns)
    states = map(_STATE_PROPERTIES.__getitem__, part.columns["state"].tolist())
    frames = [
        f'"device": {json_text(device)}, "counter": {counter}}}}}'
        for device, counter in zip(part.devices, part.counters.tolist(), strict=True)
    ]
    sources = (text for text, count in zip(frames, part.counts.tolist(), strict=True) for _ in range(count))
    names = ("time", "speed", "course", "hacc", "sats", "battery")
    values = zip(coordinates, *(texts[name] for name in names), states, sources, strict=True)
    for place, time, speed, course, hacc, sats, battery, state, source in values:
        yield place and (
            f'{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": {place}}}, "properties": '
            f'{{"time": "{time}", "speed_mps": {speed or "null"}, "course_deg": {course or "null"}, '
            f'"hacc_m": {hacc or "null"}, "sats": {sats or "null"}, "battery_pct": {battery or "null"}, '
            f"{state}, {source}"
        )


def _track_points(part: PositionBlock) -> list[str]:
    """Return the point of each position; "" for an unknown one."""
    texts = value_texts(part.columns)
    return [
        f'      <trkpt lat="{_decimal(lat)}" lon="{_decimal(lon)}">\n'
        + (f"        <ele>{_decimal(alt)}</ele>\n" if alt else "")
        + f"        <time>{time[:19]}{'' if time[_MILLISECONDS] == '000' else f'.{time[_MILLISECONDS]}000'}Z</time>\n"
        "      </trkpt>\n"
        if lat
        else ""
        for time, lat, lon, alt in zip(texts["time"], texts["lat"], texts["lon"], texts["alt"], strict=True)
    ]


def _decimal(text: str) -> str:
    return text if "e" not in text else formats.decimal(float(text))
