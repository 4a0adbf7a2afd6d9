"""Redraw times of map.html with 100,000 fixes, in headless Chromium at 1280x800.

Writes build/bench/map.json. Two patrols of 28 hours at 1 Hz, seeded: "beat" covers the same 2 km over and over, "tour"
moves on. Each zoom level is redrawn 15 times, each time at another place. A redraw includes the rasterization: reading
a pixel of the canvas waits for it.
"""

import json
import math
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from patrolink.report import track  # noqa: E402

from tests.support.console_site import chromium  # noqa: E402

FIXES = 100_000
SIZE = (1280, 800)
ZOOMS = (1, 4, 16, 64)
REDRAWS = 15
LIMIT_MS = 30.0
EXTENT_M = {"beat": 1000.0, "tour": 100_000.0}
# Returns the times of redraws at a zoom level, around points of the track.
MEASURE = """
fit();
const fitted = scale, times = [];
for (let i = 0; i < arguments[1]; i++) {
  scale = fitted * arguments[0];
  const p = points[Math.floor(points.length * (i + .5) / arguments[1])];
  if (arguments[0] > 1) [midX, midY] = p;
  const from = performance.now();
  draw();
  pen.getImageData(0, 0, 1, 1);
  times.push(performance.now() - from);
}
return times;
"""


def patrol(kind: str) -> list[dict[str, Any]]:
    """Return the rows of a walk at 1.4 m/s that turns slowly and stays within the extent."""
    rnd = random.Random(kind)
    x = y = 0.0
    heading = 0.0
    rows = []
    for i in range(FIXES):
        heading += rnd.gauss(0, 0.1)
        if math.hypot(x, y) > EXTENT_M[kind]:
            heading = math.atan2(-y, -x) + rnd.gauss(0, 0.5)
        x += 1.4 * math.cos(heading)
        y += 1.4 * math.sin(heading)
        clock = f"2026-01-{1 + i // 86400:02d}T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}.000Z"
        row = {"record": "position", "time": clock, "lat_deg": 46 + y / 111_195, "lon_deg": 14 + x / 77_240}
        rows.append({**row, "speed_mps": 1.4, "alt_m": 300.0})
    return rows


def main() -> int:
    """Measure all zoom levels of both patrols and write the result."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="patrolink-map-") as name, chromium(Path(name) / "profile") as browser:
        browser.set_window_size(*SIZE)
        for kind in EXTENT_M:
            page = Path(name) / f"{kind}.html"
            track.write_html(patrol(kind), page, f"{kind}, {FIXES} fixes", {"fixes": FIXES})
            browser.get(page.as_uri())
            for zoom in ZOOMS:
                browser.execute_script(MEASURE, zoom, 2)  # compiles the script
                times = browser.execute_script(MEASURE, zoom, REDRAWS)
                rows.append(
                    {
                        "track": kind,
                        "zoom": zoom,
                        "median_ms": round(statistics.median(times), 1),
                        "most_ms": round(max(times), 1),
                    }
                )
                print("{track}, zoom {zoom}: {median_ms} ms, most {most_ms} ms".format(**rows[-1]))
    path = ROOT / "build" / "bench" / "map.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"fixes": FIXES, "size": list(SIZE), "limit_ms": LIMIT_MS, "rows": rows}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["median_ms"] <= LIMIT_MS for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
