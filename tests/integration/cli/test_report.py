"""Tracks as files, picture and page, with no, one and many points. Text is escaped; the page needs no network."""

import io
import json
import math
import os
import random
import re
import shutil
import subprocess
import tracemalloc
from datetime import datetime

import gpxpy
import matplotlib.image
import pytest
from patrolink.core.grouped_spool import GroupedSpool
from patrolink.report import formats, track

from tests.support.polling import TIMEOUT_S


def position(i: int, **changes) -> dict:
    row = {
        "record": "position",
        "time": f"2026-01-01T00:{i // 60 % 60:02d}:{i % 60:02d}.000Z",
        "lat_deg": 46.0 + i * 1e-5,
        "lon_deg": 14.0 + i * 1e-5,
        "alt_m": 100.0 + i,
        "speed_mps": 1.0 + i % 5,
        "course_deg": None,
        "hacc_m": 2.5,
        "sats": 8,
        "battery_pct": None,
        "mode": 3,
        "date_suspect": False,
        "estimated": False,
        "differential": False,
        "device": "dev-1",
        "counter": i,
    }
    return row | changes


TRACKS = {
    "none": [],
    "other messages": [{"record": "hello", "device": "dev-1", "counter": 1, "time": None}],
    "no fix": [position(0, lat_deg=None, lon_deg=None, mode=1)],
    "one": [position(0)],
    "standing": [position(0), position(0), position(0)],
    "two": [position(0), position(1)],
    "no speeds": [position(i, speed_mps=None) for i in range(5)],
    "some speeds": [position(i, speed_mps=None if i % 2 else 1.0) for i in range(5)],
    "at the pole": [position(i, lat_deg=89.9999, lon_deg=i * 30.0) for i in range(5)],
    "many": [position(i) for i in range(3000)],
}
WITH_POSITION = {name: [r for r in rows if r.get("lat_deg") is not None] for name, rows in TRACKS.items()}


def write(output_format: str, rows: list[dict]) -> str:
    out = io.StringIO()
    formats.WRITERS[output_format](rows, out)
    return out.getvalue()


@pytest.mark.parametrize("name", TRACKS)
def test_files_have_every_position(name):
    rows, fixes = TRACKS[name], WITH_POSITION[name]
    assert [json.loads(line) for line in write("jsonl", rows).splitlines()] == rows
    assert len(write("csv", rows).splitlines()) == 1 + sum(r["record"] == "position" for r in rows)
    features = json.loads(write("geojson", rows))["features"]
    kinds = [f["geometry"]["type"] for f in features]
    assert kinds == ["LineString"] * (len(fixes) > 1) + ["Point"] * len(fixes)
    for feature, row in zip(features[len(fixes) > 1 :], fixes, strict=True):
        assert feature["geometry"]["coordinates"] == [row["lon_deg"], row["lat_deg"], row["alt_m"]]
        assert feature["properties"]["time"] == row["time"]
    points = [p for t in gpxpy.parse(write("gpx", rows)).tracks for s in t.segments for p in s.points]
    assert [(p.latitude, p.longitude, p.elevation) for p in points] == [
        (r["lat_deg"], r["lon_deg"], r["alt_m"]) for r in fixes
    ]


def test_each_device_has_a_line():
    rows = [position(i, device=f"dev-{i % 2}") for i in range(6)]
    features = json.loads(write("geojson", rows))["features"]
    lines = [f for f in features if f["geometry"]["type"] == "LineString"]
    assert {f["properties"]["device"] for f in lines} == {"dev-0", "dev-1"}
    assert sorted(t.name for t in gpxpy.parse(write("gpx", rows)).tracks) == ["dev-0", "dev-1"]


def test_gpx_is_what_gpxpy_writes():
    rows = [position(i, device=f"dev-{i % 3}") for i in range(9)]
    rows += [position(0, lat_deg=5e-07, lon_deg=-1e-06, alt_m=-0.003, time="2026-01-01T00:00:00.120Z")]
    rows += [position(1, time=None), position(2, alt_m=None, device="a<b")]
    document = gpxpy.gpx.GPX()
    document.creator = "patrolink"
    for device in ("dev-0", "dev-1", "dev-2", "a<b"):
        track = gpxpy.gpx.GPXTrack(name=device)
        of_device = sorted((r for r in rows if r["device"] == device), key=rows.index)
        when = [r["time"] and datetime.fromisoformat(r["time"].replace("Z", "+00:00")) for r in of_device]
        points = [
            gpxpy.gpx.GPXTrackPoint(r["lat_deg"], r["lon_deg"], r["alt_m"], t)
            for r, t in zip(of_device, when, strict=True)
        ]
        track.segments.append(gpxpy.gpx.GPXTrackSegment(points))
        document.tracks.append(track)
    assert write("gpx", rows) == document.to_xml("1.1") + "\n"


def test_spool_returns_the_texts_of_each_group_in_order():
    rnd = random.Random(1)
    texts = [(rnd.choice("abc"), f"é{i};") for i in range(500)]
    for pending_max in (1, 100, 10_000):
        with GroupedSpool(pending_max) as spool:
            for group, text in texts:
                spool.append(group, text)
            assert list(spool) == list(dict(texts))
            for group in spool:
                assert "".join(spool.read(group)) == "".join(text for name, text in texts if name == group)


def test_memory_does_not_grow_with_the_rows():
    def peak(count: int, output_format: str) -> int:
        rows = (position(i % 3000, device=f"dev-{i % 7}", counter=i) for i in range(count))
        with open(os.devnull, "w") as out:
            tracemalloc.start()
            formats.WRITERS[output_format](rows, out)
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return size

    for output_format in ("geojson", "gpx"):
        assert peak(40_000, output_format) < 16e6


def test_unknown_values_are_written_as_unknown():
    row = position(0, time=None, alt_m=None)
    assert write("csv", [row]).splitlines()[1].startswith(",46.0,14.0,,")
    point = json.loads(write("geojson", [row]))["features"][0]
    assert point["geometry"]["coordinates"] == [14.0, 46.0] and point["properties"]["time"] is None
    parsed = gpxpy.parse(write("gpx", [row])).tracks[0].segments[0].points[0]
    assert parsed.time is None and parsed.elevation is None


def test_local_metres_agree_with_great_circle():
    (_, _), (east, north) = track.local_metres([position(0), position(0, lat_deg=46.01, lon_deg=14.01)])
    assert math.isclose(math.hypot(east, north), 1354.8, rel_tol=1e-3)


@pytest.mark.parametrize("name", TRACKS)
def test_picture_is_drawn(name, tmp_path):
    track.write_png(TRACKS[name], tmp_path / "t.png", "a $\\frac track <b>")
    image = matplotlib.image.imread(tmp_path / "t.png")
    assert image.shape == (880, 880, 4) and image.min() < image.max()


@pytest.mark.parametrize("name", TRACKS)
def test_page_is_self_contained_and_escapes_text(name, tmp_path):
    title, facts = "</title><script>x()</script>", {"<i>": "</script><img src=x onerror=y()>"}
    track.write_html(TRACKS[name], tmp_path / "t.html", title, facts)
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert "{{" not in page and not re.search(r"https?:|//[a-z]|src=[\"']|@import|url\(", page)
    assert page.count("<script>") == page.count("</script>") == 1 and "<img" not in page
    points = json.loads(re.search(r"const points = (\[.*\]);", page)[1])
    assert len(points) == len(WITH_POSITION[name])


@pytest.mark.parametrize(
    ("name", "period"),
    [
        ("none", "time unknown"),
        ("one", "2026-01-01 00:00:00 UTC"),
        ("many", "2026-01-01 00:00:00 to 00:49:59 UTC"),
    ],
)
def test_page_has_the_date(name, period, tmp_path):
    track.write_html(TRACKS[name], tmp_path / "t.html", "t", {})
    assert f"<p>{period}</p>" in (tmp_path / "t.html").read_text(encoding="utf-8")


def test_page_of_several_days_has_both_dates(tmp_path):
    rows = [position(0), position(1, time="2026-01-02T01:00:00.000Z"), position(2, time=None)]
    track.write_html(rows, tmp_path / "t.html", "t", {})
    assert "2026-01-01 00:00:00 to 2026-01-02 01:00:00 UTC" in (tmp_path / "t.html").read_text(encoding="utf-8")


PIXELS = """
const ratio = devicePixelRatio || 1;
const pixel = (i, dx, dy) => Array.from(
  pen.getImageData((toX(east[i]) + dx) * ratio, (toY(north[i]) + dy) * ratio, 1, 1).data.slice(0, 3)).join();
const last = count - 1;
return [pixel(0, 6, 0), pixel(0, 7, 7), pixel(last, 6, 0), pixel(last, 3, 3), pixel(count >> 1, 0, 0)];
"""
GREEN, RED, BLUE = "26,127,55", "207,34,46", "31,111,235"


def test_page_shows_start_as_circle_and_end_as_square(tmp_path, browser):
    """Colour alone does not tell start and end apart; the track is drawn between them at every zoom level."""
    for name in TRACKS:
        track.write_html(TRACKS[name], tmp_path / "t.html", name, {})
        browser.get((tmp_path / "t.html").as_uri())
        assert browser.get_log("browser") == [], name
    track.write_html(TRACKS["many"], tmp_path / "t.html", "many", {})
    browser.get((tmp_path / "t.html").as_uri())
    for zoom in (1, 0.5):
        start_side, start_corner, end_side, end_corner, middle = browser.execute_script(
            f"scale *= {zoom}; draw();" + PIXELS
        )
        assert start_side == GREEN != start_corner and end_side != RED == end_corner and middle == BLUE


def test_page_script_has_valid_syntax(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on PATH; Debian package nodejs")
    track.write_html(TRACKS["many"], tmp_path / "t.html", "t", {})
    script = re.search(r"<script>(.*)</script>", (tmp_path / "t.html").read_text(encoding="utf-8"), re.S)[1]
    (tmp_path / "t.js").write_text(script, encoding="utf-8")
    command = [node, "--check", str(tmp_path / "t.js")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 0, result.stderr
