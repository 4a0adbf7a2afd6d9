"""The map of an evidence sheet: the track as an SVG drawing in metres, without map data from a network."""

import html as markup
import math

from patrolink.core.text import plural
from patrolink.evidence import contact_sheet
from patrolink.evidence.export import ClipExport
from patrolink.evidence.segment import FixRecord
from patrolink.report.track import local_metres

_WIDTH, _HEIGHT, _MARGIN = 600, 300, 30
_SCALE_BAR_MAX = 160  # units of the drawing
_EXTENT_MIN_M = 20  # less is the receiver's noise
_POINTS_MAX = 2000
_Point = tuple[float, float]


def track_svg(export: ClipExport) -> str:
    """Return the map of an export with its legend, as HTML."""
    fixes = export.metadata.valid_fixes
    if not fixes:
        return '<p class="dim">No position is known.</p>'
    points, scale = _project(local_metres(export.metadata.rows()))
    step = -(-len(points) // _POINTS_MAX)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points[::step])
    dots = [_dot(points[0], "#1a7f37", "start" if len(points) > 1 else "", is_event=False)]
    if len(points) > 1:
        dots.append(_dot(points[-1], "#1f2328", "end", is_event=False))
    for event in export.events[: contact_sheet.PICTURES_MAX]:
        nearest = min(range(len(fixes)), key=lambda i: abs(fixes[i].at_ms - event.at_ms))
        color = contact_sheet.RED if event.trigger in contact_sheet.URGENT_TRIGGERS else contact_sheet.BLUE
        dots.append(_dot(points[nearest], color, contact_sheet.trigger_label(event.trigger)))
    legend = f"1 position of the satellite receiver: {format_position(fixes[0].fix)}."
    if len(fixes) > 1:
        start, end = format_position(fixes[0].fix), format_position(fixes[-1].fix)
        legend = f"{plural(len(fixes), 'position')} of the satellite receiver. Start: {start}. End: {end}."
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Map of the track">{_scale_bar(scale)}'
        f"{_north_arrow()}"
        f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="3" stroke-linejoin="round"/>'
        f'{"".join(dots)}</svg><p class="dim">{legend}</p>'
    )


def format_position(fix: FixRecord) -> str:
    """Return a valid position for people: latitude, longitude and accuracy."""
    lat, lon = fix.lat_deg or 0.0, fix.lon_deg or 0.0
    text = f"{abs(lat):.6f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.6f}° {'E' if lon >= 0 else 'W'}"
    return text + (f", ±{fix.hacc_m:.0f} m" if fix.hacc_m is not None else "")


def _project(metres: list[_Point]) -> tuple[list[_Point], float]:
    """Return points in units of the drawing, y downwards, and the scale in units per metre."""
    ranges = [(min(axis), max(axis)) for axis in zip(*metres, strict=True)]
    scale = min(
        (_WIDTH - 2 * _MARGIN) / max(ranges[0][1] - ranges[0][0], _EXTENT_MIN_M),
        (_HEIGHT - 2 * _MARGIN) / max(ranges[1][1] - ranges[1][0], _EXTENT_MIN_M),
    )
    center_x, center_y = (sum(r) / 2 for r in ranges)
    return [(_WIDTH / 2 + (x - center_x) * scale, _HEIGHT / 2 - (y - center_y) * scale) for x, y in metres], scale


def _dot(point: _Point, color: str, label: str, is_event: bool = True) -> str:
    """Draw a position. An event's label is above left, that of start and end below right: they may coincide."""
    x, y = point
    dx, dy, anchor = (-8, -8, "end") if is_event else (10, 16, "start")
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{color}"/>'
        f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}" font-size="14" fill="{color}">'
        f"{markup.escape(label)}</text>"
    )


def _north_arrow() -> str:
    x, y = _WIDTH - 24, 14
    return (
        f'<path d="M{x} {y}l7 18l-7 -5l-7 5z" fill="#1f2328"/>'
        f'<text x="{x}" y="{y + 34}" text-anchor="middle" font-size="13" fill="#1f2328">N</text>'
    )


def _scale_bar(scale: float) -> str:
    """Draw a scale bar of 1, 2 or 5 times a power of ten metres."""
    power = 10 ** math.floor(math.log10(_SCALE_BAR_MAX / scale))
    metres = next(n for n in (5, 2, 1) if n * power * scale <= _SCALE_BAR_MAX) * power
    label = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    return (
        f'<rect x="16" y="{_HEIGHT - 20}" width="{metres * scale:.1f}" height="3" fill="#1f2328"/>'
        f'<text x="16" y="{_HEIGHT - 27}" font-size="13" fill="#1f2328">{label}</text>'
    )
