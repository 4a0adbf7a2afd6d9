"""The map of an evidence sheet: the track as a drawing in metres. It needs no network and can be printed."""

import html as markup
import math

from patrolink.evidence import contact_sheet
from patrolink.evidence.export import Export
from patrolink.evidence.segment import Fix
from patrolink.report.track import local_metres

_WIDTH, _HEIGHT, _EDGE = 600, 300, 30
_LEAST_M = 20  # that are shown: less is the receiver's noise
_MOST_POINTS = 2000  # of a track


def svg(out: Export) -> str:
    """Return the map of an export with its legend, as HTML."""
    placed = [(at_ms, fix) for at_ms, fix in out.story.fixes if fix.lat_deg is not None]
    if not placed:
        return '<p class="dim">No position is known.</p>'
    points = local_metres(out.story.rows())
    spans = [(min(axis), max(axis)) for axis in zip(*points, strict=True)]
    scale = min(
        (_WIDTH - 2 * _EDGE) / max(spans[0][1] - spans[0][0], _LEAST_M),
        (_HEIGHT - 2 * _EDGE) / max(spans[1][1] - spans[1][0], _LEAST_M),
    )
    middle = [sum(span) / 2 for span in spans]
    drawn = [(_WIDTH / 2 + (x - middle[0]) * scale, _HEIGHT / 2 - (y - middle[1]) * scale) for x, y in points]
    every = -(-len(drawn) // _MOST_POINTS)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn[::every])
    marks = [_dot(drawn[0], "#1a7f37", "begin" if len(drawn) > 1 else "", False)]
    if len(drawn) > 1:
        marks.append(_dot(drawn[-1], "#1f2328", "end", False))
    for when, trigger in out.events[: contact_sheet.MOST]:
        near = min(range(len(placed)), key=lambda i: abs(placed[i][0] - when))
        marks.append(
            _dot(
                drawn[near],
                contact_sheet.RED if trigger in contact_sheet.URGENT else contact_sheet.BLUE,
                contact_sheet.word(trigger),
            )
        )
    told = f"1 position of the satellite receiver: {words(placed[0][1])}."
    if len(placed) > 1:
        first, last = words(placed[0][1]), words(placed[-1][1])
        told = f"{len(placed)} positions of the satellite receiver. Begin: {first}. End: {last}."
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Map of the track">{_bar(scale)}{_north()}'
        f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="3" stroke-linejoin="round"/>'
        f'{"".join(marks)}</svg><p class="dim">{told}</p>'
    )


def words(fix: Fix) -> str:
    """Return a position that is known, as a sheet tells it."""
    lat, lon = fix.lat_deg or 0.0, fix.lon_deg or 0.0
    place = f"{abs(lat):.6f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.6f}° {'E' if lon >= 0 else 'W'}"
    return place + (f", ±{fix.hacc_m:.0f} m" if fix.hacc_m is not None else "")


def _dot(at: tuple[float, float], colour: str, word: str, event: bool = True) -> str:
    """A place with its word: of an event left above it, of begin and end right below, as they may be the same place."""
    x, y = at
    dx, dy, anchor = (-8, -8, "end") if event else (10, 16, "start")
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>'
        f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}" font-size="14" fill="{colour}">'
        f"{markup.escape(word)}</text>"
    )


def _north() -> str:
    x, y = _WIDTH - 24, 14
    return (
        f'<path d="M{x} {y}l7 18l-7 -5l-7 5z" fill="#1f2328"/>'
        f'<text x="{x}" y="{y + 34}" text-anchor="middle" font-size="13" fill="#1f2328">N</text>'
    )


def _bar(scale: float) -> str:
    """A bar of 1, 2 or 5 times a power of ten metres."""
    power = 10 ** math.floor(math.log10(160 / scale))
    metres = next(n for n in (5, 2, 1) if n * power * scale <= 160) * power
    label = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    return (
        f'<rect x="16" y="{_HEIGHT - 20}" width="{metres * scale:.1f}" height="3" fill="#1f2328"/>'
        f'<text x="16" y="{_HEIGHT - 27}" font-size="13" fill="#1f2328">{label}</text>'
    )
