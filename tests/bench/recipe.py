"""Fixes with nine fields from a recorded track. A seeded recipe provides the fields that the file does not have.

heading    bearing to the next point, with 5 degrees (one sigma) of noise
accuracy   from 4 m, a random walk of 0.15 m per second between 2 and 12 m
satellites from 10, one more or one fewer once in 20 s on average
battery    from 95 %, discharged at 12.5 % per hour
"""

import math
import random
from pathlib import Path

from patrolink.core import tracks
from patrolink_protocol import track_encoder


def fixes(path: Path, seed: int = 1) -> list[tuple[int, ...]]:
    """Return (unix ms, lat 1e-7, lon 1e-7, alt mm, speed mm/s, course 0.01 deg, hacc mm, sats, battery)."""
    rnd = random.Random(seed)
    points = tracks.read(path)
    accuracy, sats, battery, bearing = 4.0, 10, 95.0, 0.0
    out = []
    for i, p in enumerate(points):
        a, b = (p, points[i + 1]) if i + 1 < len(points) else (points[i - 1], p)
        east = (b.lon_deg - a.lon_deg) * math.cos(math.radians(a.lat_deg))
        if east or b.lat_deg != a.lat_deg:
            bearing = math.degrees(math.atan2(east, b.lat_deg - a.lat_deg))
        accuracy = min(12.0, max(2.0, accuracy + rnd.gauss(0, 0.15)))
        if rnd.random() < 0.05:
            sats = min(16, max(5, sats + rnd.choice((-1, 1))))
        battery = max(0.0, battery - 100 / (8 * 3600))
        course = round((bearing + rnd.gauss(0, 5)) % 360 * 100) % 36000
        out.append(
            (
                p.time_ms,
                round(p.lat_deg * 1e7),
                round(p.lon_deg * 1e7),
                round((p.alt_m or 0) * 1000),
                round((p.speed_mps or 0) * 1000),
                course,
                round(accuracy * 1000),
                sats,
                round(battery),
            )
        )
    return out


def row(fix: tuple[int, ...]) -> tuple[int, int, list[int]]:
    """Return the arguments of TrackEncoder.add: (day, millisecond, row)."""
    t, lat, lon, *rest = fix
    return t // 86_400_000, t % 86_400_000, [lat, lon, 3, *rest]


def body(batch: list[tuple[int, ...]], rice: bool = True, omit: tuple[str, ...] = (), resolution: int = 6) -> bytes:
    """Return the batch body of up to 255 fixes."""
    encoder = track_encoder.TrackEncoder(len(batch), resolution, rice, omit)
    for fix in batch:
        encoder.add(*row(fix))
    buf = bytearray(8192)
    return bytes(buf[: encoder.encode_into(buf, 0, len(batch))])
