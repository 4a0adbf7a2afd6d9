"""Draw a track as a picture, and as a map page that needs no network."""

import html
import json
import logging
import math
from importlib import resources
from pathlib import Path
from typing import Any

from patrolink.core.decoder import Row
from patrolink.core.tracks import EARTH_RADIUS_M


def _with_position(rows: list[Row]) -> list[Row]:
    return [r for r in rows if r["record"] == "position" and r["lat_deg"] is not None]


def _period(rows: list[Row]) -> str:
    """Return date and time of the first and the last position: "2026-01-01 10:20:30 to 11:00:00 UTC"."""
    times = [r["time"][:19].replace("T", " ") for r in _with_position(rows) if r["time"]]
    if not times:
        return "time unknown"
    first, last = min(times), max(times)
    if first == last:
        return f"{first} UTC"
    return f"{first} to {last[11:] if last[:10] == first[:10] else last} UTC"


def local_metres(rows: list[Row]) -> list[tuple[float, float]]:
    """Return (east, north) in metres of each row with a position, from the first one (equirectangular projection)."""
    located = _with_position(rows)
    if not located:
        return []
    lat0, lon0 = located[0]["lat_deg"], located[0]["lon_deg"]
    scale = math.cos(math.radians(lat0))
    return [
        (math.radians(r["lon_deg"] - lon0) * EARTH_RADIUS_M * scale, math.radians(r["lat_deg"] - lat0) * EARTH_RADIUS_M)
        for r in located
    ]


def write_png(rows: list[Row], path: Path, title: str) -> None:
    """Draw the track to a PNG file, coloured by speed, in metres from its start."""
    # Without a writable home, matplotlib uses a temporary folder and says so in two lines of its log.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(f"{title}\n{_period(rows)}, north up", parse_math=False)  # a title may contain $
    axes.set_xlabel("east of start, m")
    axes.set_ylabel("north of start, m")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    points = local_metres(rows)
    if len(points) > 1:
        known = [r["speed_mps"] for r in _with_position(rows)[1:]]
        colours = colormaps["viridis"].with_extremes(bad="#8c959f")  # grey: speed unknown
        lines = LineCollection(list(zip(points, points[1:], strict=False)), cmap=colours, linewidths=2.5)
        lines.set_array([math.nan if speed is None else speed * 3.6 for speed in known])
        axes.add_collection(lines)
        axes.autoscale()
        if any(speed is not None for speed in known):
            figure.colorbar(lines, ax=axes, label="km/h", shrink=0.7)
        else:
            lines.set_clim(0, 1)
        _scale_bar(axes, points)
    if points:
        axes.plot(*points[0], "o", color="#1a7f37", markersize=9, label="start")
        axes.plot(*points[-1], "s", color="#cf222e", markersize=8, label="end")
        axes.legend(loc="best")
    else:
        axes.text(0.5, 0.5, "no position", ha="center", transform=axes.transAxes)
    figure.savefig(path)


def _scale_bar(axes: Any, points: list[tuple[float, float]]) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten metres, about a fifth of the track's extent."""
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    extent = max(max(axis) - min(axis) for axis in zip(*points, strict=True))
    if extent <= 0:
        return
    power = 10 ** math.floor(math.log10(extent / 5))
    bar = next(n for n in (5, 2, 1) if n * power <= extent / 5 or n == 1) * power
    label = f"{bar / 1000:g} km" if bar >= 1000 else f"{bar:g} m"
    axes.add_artist(AnchoredSizeBar(axes.transData, bar, label, "lower right", pad=0.6, frameon=False, size_vertical=0))


def write_html(rows: list[Row], path: Path, title: str, facts: dict[str, Any]) -> None:
    """Write a self-contained page: the track to pan, zoom and inspect, and a table of values.

    Args:
        rows: the rows of one device.
        path: file to write.
        title: title of the page.
        facts: name → value for the table; None is left out.
    """
    points = [
        [round(east, 1), round(north, 1), r["time"], r["speed_mps"], r["alt_m"], r["lat_deg"], r["lon_deg"]]
        for (east, north), r in zip(local_metres(rows), _with_position(rows), strict=True)
    ]
    table = "".join(
        f"<tr><th>{html.escape(str(k).replace('_', ' '))}</th><td>{html.escape(str(v))}</td></tr>"
        for k, v in facts.items()
        if v is not None
    )
    page = resources.files("patrolink.report").joinpath("map.html").read_text(encoding="utf-8")
    # A "</" would end the script element.
    data = json.dumps(points, separators=(",", ":")).replace("</", "<\\/")
    period = html.escape(_period(rows))
    for mark, text in (
        ("{{title}}", html.escape(title)),
        ("{{period}}", period),
        ("{{facts}}", table),
        ("{{points}}", data),
    ):
        page = page.replace(mark, text)
    path.write_text(page, encoding="utf-8")
