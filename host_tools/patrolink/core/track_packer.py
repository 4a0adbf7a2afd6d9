"""Tracks to position batches, as a device would send them."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import frame, track_encoder

from patrolink.core import nmea_log, tracks
from patrolink.core.errors import UserError

_DAY_MS = 86_400_000
# Column → (name in tables, row units in one of them).
UNITS = {
    "lat": ("lat_deg", 10_000_000),
    "lon": ("lon_deg", 10_000_000),
    "alt": ("alt_m", 1000),
    "speed": ("speed_mps", 1000),
    "course": ("course_deg", 100),
    "hacc": ("hacc_m", 1000),
    "sats": ("sats", 1),
    "battery": ("battery_pct", 1),
}


@dataclass(frozen=True)
class Fix:
    """One row to be packed: unix milliseconds, mode and flags as the protocol's state, values in table units."""

    time_ms: int
    state: int
    values: dict[str, float | None]


def resolutions(resolution: int) -> dict[str, float]:
    """Return the step of each column in table units; decoding returns every value within half of it."""
    return {UNITS[c[0]][0]: c[3] / UNITS[c[0]][1] for c in track_encoder.column_specs(resolution) if c[0] in UNITS}


def read(path: Path) -> Iterator[Fix]:
    """Yield what a .csv, .gpx or NMEA file holds. UserError says what is wrong with it."""
    if path.suffix.lower() in (".csv", ".gpx"):
        for p in tracks.read_points(path):
            values = {name: getattr(p, name) for name, _ in UNITS.values()}
            yield Fix(p.time_ms, 3 if p.alt_m is not None else 2, values)
    elif path.suffix.lower() in (".nmea", ".log", ".txt"):
        with nmea_log.decode(str(path)) as lines:
            yield from _nmea(lines)
    else:
        raise UserError(f"{path}: pack takes .csv, .gpx, and NMEA as .nmea, .log or .txt")


def _nmea(lines: Iterable[str]) -> Iterator[Fix]:
    for line in lines:
        fix = json.loads(line)
        if fix["time"] is None:
            continue
        state = fix["mode"] or 1
        for name, bit in (
            ("date_suspect", track_encoder.DATE_SUSPECT),
            ("estimated", track_encoder.ESTIMATED),
            ("differential", track_encoder.DIFFERENTIAL),
        ):
            state |= bit if fix[name] else 0
        values = {"lat_deg": fix["lat"], "lon_deg": fix["lon"], "alt_m": fix["alt"], "speed_mps": fix["speed"]}
        values |= {"course_deg": fix["course"], "hacc_m": fix["hacc"], "sats": fix["sats"], "battery_pct": None}
        yield Fix(tracks.time_ms(fix["time"]), state, values)


@dataclass
class PackCounts:
    """What packing did."""

    fixes: int = 0
    frames: int = 0
    bytes: int = 0
    overhead: int = 0
    left_out: int = 0  # rows that the protocol cannot state: no time, or one before 1970
    unstorable: int = 0  # values outside their column's range, sent as unknown

    def summary(self, resolution: int) -> dict[str, Any]:
        """Return the counts as JSON-ready data."""
        body = self.bytes - self.overhead
        return {
            "fixes": self.fixes,
            "frames": self.frames,
            "bytes": self.bytes,
            "bytes_without_overhead": body,
            "bytes_per_fix": round(self.bytes / self.fixes, 3) if self.fixes else None,
            "bytes_per_fix_without_overhead": round(body / self.fixes, 3) if self.fixes else None,
            "left_out": self.left_out,
            "unstorable": self.unstorable,
            "resolution": resolutions(resolution),
        }


class TrackPacker:
    """Makes frames of moments; `counts` tells what it did."""

    def __init__(self, channel: frame.Channel, encoder: track_encoder.TrackEncoder, counter: int = 0) -> None:
        self.counts = PackCounts()
        self._channel = channel
        self._encoder = encoder
        self._counter = counter
        self._buf = bytearray(m.MAX_FRAME)
        self._place = (0, 0)
        self._rules = [
            (c[0], c[1], c[2], c[3]) for c in track_encoder.column_specs(encoder.resolution) if c[0] in UNITS
        ]

    def frames(self, moments: Iterable[Fix]) -> Iterator[tuple[int, bytes]]:
        """Yield (time of its last row in unix ms, frame) for all moments."""
        last = 0
        for moment in moments:
            day, ms = divmod(moment.time_ms, _DAY_MS)
            if not self._encoder.accepts(day, ms):
                yield from self._flush(last)
            try:
                self._encoder.add(day, ms, self._row(moment))
            except track_encoder.RangeError:
                self.counts.left_out += 1
                continue
            last = moment.time_ms
            self.counts.fixes += 1
            if self._encoder.count == self._encoder.capacity:
                yield from self._flush(last)
        yield from self._flush(last)

    def _row(self, moment: Fix) -> list[int]:
        """Row units, rounded once, here: a value is off by half a step at most, however many digits it came with."""
        row = []
        for name, low, high, step in self._rules:
            key, scale = UNITS[name]
            value = moment.values[key]
            if value is None:
                row.append(enums.UNKNOWN)
                continue
            units = math.floor(value * scale / step + 0.5) * step
            if name == "course":
                units %= 36000
            if not low <= units <= high:
                self.counts.unstorable += 1
                units = enums.UNKNOWN
            row.append(units)
        state = moment.state
        if enums.UNKNOWN in row[:2]:
            state = state & ~track_encoder.MODE_MASK | 1
            row[:2] = self._place
        self._place = (row[0], row[1])
        return [*row[:2], state, *row[2:]]

    def _flush(self, time_ms: int) -> Iterator[tuple[int, bytes]]:
        encoder = self._encoder
        view = memoryview(self._buf)[: m.MAX_FRAME - m.TAG_BYTES]
        while encoder.count:
            end, n = encoder.fit_into(view, frame.HEADER_BYTES)
            size = self._channel.seal_into(self._buf, m.POSITION_BATCH, self._counter, end)
            self._counter += 1
            encoder.drop(n)
            self.counts.frames += 1
            self.counts.bytes += size
            self.counts.overhead += frame.HEADER_BYTES + m.TAG_BYTES
            yield time_ms, bytes(self._buf[:size])
