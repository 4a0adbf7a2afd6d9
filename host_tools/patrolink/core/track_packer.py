"""Encode tracks as position batches, as a device sends them."""

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
# Protocol column → (name in tables, protocol units per unit of that name).
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
    """One fix to encode.

    Args:
        time_ms: unix time, ms.
        state: mode (1 none, 2 2D, 3 3D) and flags, as in the protocol's state column.
        values: table name → value; None if unknown.
    """

    time_ms: int
    state: int
    values: dict[str, float | None]


def resolutions(resolution: int) -> dict[str, float]:
    """Return the quantisation step of each column in table units; a decoded value is off by half of it at most.

    Args:
        resolution: decimal digits of a degree, 5 to 7.
    """
    return {UNITS[c[0]][0]: c[3] / UNITS[c[0]][1] for c in track_encoder.column_specs(resolution) if c[0] in UNITS}


def read(path: Path) -> Iterator[Fix]:
    """Yield the fixes of a .csv, .gpx or NMEA file.

    Raises:
        UserError: the file cannot be used.
    """
    if path.suffix.lower() in (".csv", ".gpx"):
        for p in tracks.read_points(path):
            values = {name: getattr(p, name) for name, _ in UNITS.values()}
            yield Fix(p.time_ms, 3 if p.alt_m is not None else 2, values)
    elif path.suffix.lower() in (".nmea", ".log", ".txt"):
        with nmea_log.decode(str(path)) as lines:
            yield from _read_nmea(lines)
    else:
        raise UserError(
            f"{path}: unknown kind of track; name a .csv or .gpx file, or an NMEA log as .nmea, .log or .txt"
        )


def _read_nmea(lines: Iterable[str]) -> Iterator[Fix]:
    for line in lines:
        fix = json.loads(line)
        if fix["record"] != "fix" or fix["time"] is None:
            continue
        state = fix["mode"] or 1
        for name, bit in (
            ("date_suspect", track_encoder.DATE_SUSPECT),
            ("estimated", track_encoder.ESTIMATED),
            ("differential", track_encoder.DIFFERENTIAL),
        ):
            state |= bit if fix[name] else 0
        values = {name: fix.get(name) for name, _ in UNITS.values()}
        yield Fix(tracks.time_ms(fix["time"]), state, values)


@dataclass
class PackCounts:
    """Counts of a packer.

    Args:
        fixes: encoded fixes.
        frames: frames that hold them.
        bytes: size of the frames.
        overhead: bytes of these for headers and tags.
        left_out: fixes with a time that the protocol cannot encode, before 1970 for example.
        unstorable: values outside their column's range, encoded as unknown.
    """

    fixes: int = 0
    frames: int = 0
    bytes: int = 0
    overhead: int = 0
    left_out: int = 0
    unstorable: int = 0

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
    """Encodes fixes as frames.

    Args:
        channel: signs the frames.
        encoder: sets resolution, columns and batch size.
        counter: of the first frame.

    Attributes:
        counts: what was encoded so far.
    """

    def __init__(self, channel: frame.Channel, encoder: track_encoder.TrackEncoder, counter: int = 0) -> None:
        self.counts = PackCounts()
        self._channel = channel
        self._encoder = encoder
        self._counter = counter
        self._buf = bytearray(m.MAX_FRAME)
        self._last_position = (0, 0)
        self._rules = [
            (c[0], c[1], c[2], c[3]) for c in track_encoder.column_specs(encoder.resolution) if c[0] in UNITS
        ]

    def frames(self, fixes: Iterable[Fix]) -> Iterator[tuple[int, bytes]]:
        """Yield (time of its last fix in unix ms, frame) until all fixes are encoded."""
        last_ms = 0
        for fix in fixes:
            day, ms = divmod(fix.time_ms, _DAY_MS)
            if not self._encoder.accepts(day, ms):
                yield from self._flush(last_ms)
            try:
                self._encoder.add(day, ms, self._row(fix))
            except track_encoder.RangeError:
                self.counts.left_out += 1
                continue
            last_ms = fix.time_ms
            self.counts.fixes += 1
            if self._encoder.count == self._encoder.capacity:
                yield from self._flush(last_ms)
        yield from self._flush(last_ms)

    def _row(self, fix: Fix) -> list[int]:
        """Return a fix in protocol units.

        Rounding happens here only, so a value is off by half a step at most.
        """
        row = []
        for name, low, high, step in self._rules:
            key, scale = UNITS[name]
            value = fix.values[key]
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
        state = fix.state
        if enums.UNKNOWN in row[:2]:
            state = state & ~track_encoder.MODE_MASK | 1
            row[:2] = self._last_position
        self._last_position = (row[0], row[1])
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
