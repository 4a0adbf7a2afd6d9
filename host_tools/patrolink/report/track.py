"""A track as a picture and as a map page that needs no network."""

import html as markup
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

from patrolink.decoding import Row

_EARTH_M = 6371008.8


def _placed(rows: list[Row]) -> list[Row]:
    return [r for r in rows if r["message"] == "position" and r["lat_deg"] is not None]


def local_metres(rows: list[Row]) -> list[tuple[float, float]]:
    """Return (east, north) metres of each placed row from the first (equirectangular: fine for a patrol)."""
    placed = _placed(rows)
    if not placed:
        return []
    lat0, lon0 = placed[0]["lat_deg"], placed[0]["lon_deg"]
    scale = math.cos(math.radians(lat0))
    return [
        (math.radians(r["lon_deg"] - lon0) * _EARTH_M * scale, math.radians(r["lat_deg"] - lat0) * _EARTH_M)
        for r in placed
    ]


def png(rows: list[Row], path: Path, title: str) -> None:
    """Draw the track, coloured by speed, in metres from its start."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("east of start, m")
    axes.set_ylabel("north of start, m")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    points = local_metres(rows)
    if len(points) > 1:
        speeds = [(r["speed_mps"] or 0) * 3.6 for r in _placed(rows)][1:]
        lines = LineCollection(list(zip(points, points[1:], strict=False)), cmap="viridis", linewidths=2.5)
        lines.set_array(speeds)
        axes.add_collection(lines)
        axes.autoscale()
        figure.colorbar(lines, ax=axes, label="km/h", shrink=0.7)
    if points:
        axes.plot(*points[0], "o", color="#1a7f37", markersize=9, label="start")
        axes.plot(*points[-1], "s", color="#cf222e", markersize=8, label="end")
        axes.legend(loc="best")
    else:
        axes.text(0.5, 0.5, "no position", ha="center", transform=axes.transAxes)
    figure.savefig(path)


def html(rows: list[Row], path: Path, title: str, facts: dict[str, Any]) -> None:
    """Write one self-contained page: the track to pan, zoom and point at, and a table of facts."""
    points = [
        [round(east, 1), round(north, 1), r["time"], r["speed_mps"], r["alt_m"], r["lat_deg"], r["lon_deg"]]
        for (east, north), r in zip(local_metres(rows), _placed(rows), strict=True)
    ]
    table = "".join(
        f"<tr><th>{markup.escape(str(k).replace('_', ' '))}</th><td>{markup.escape(str(v))}</td></tr>"
        for k, v in facts.items()
    )
    page = resources.files("patrolink.report").joinpath("map.html").read_text(encoding="utf-8")
    # "</" would end the script element.
    data = json.dumps(points, separators=(",", ":")).replace("</", "<\\/")
    for mark, text in (("{{title}}", markup.escape(title)), ("{{facts}}", table), ("{{points}}", data)):
        page = page.replace(mark, text)
    path.write_text(page, encoding="utf-8")
