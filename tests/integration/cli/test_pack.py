"""Packed tracks are decoded to the same values within half a step, in every format."""

import csv
import json
import math
import random
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from patrolink.cli import main
from patrolink.core.decoder import POSITION_COLUMNS

from tests.support.json_lines import summary

TRACKS = Path(__file__).resolve().parent.parent.parent / "golden" / "tracks"
SEED = 3
NUMBERS = ("lat_deg", "lon_deg", "alt_m", "speed_mps", "course_deg", "hacc_m", "sats", "battery_pct")


def unix_ms(text):
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp() * 1000)


def run_json(capsys, *args):
    code = main([*map(str, args), "--json"])
    return code, summary(capsys.readouterr().out)


def decoded_rows(capsys, capture, *options):
    capsys.readouterr()
    assert main(["decode", str(capture), "--format", "csv", *options]) == 0
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


def write_random_track(path, n=500, seed=SEED):
    rnd = random.Random(seed)
    lat, lon, t = rnd.uniform(-80, 80), rnd.uniform(-179, 179), 1_700_000_000_000
    with path.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(("time", *NUMBERS))
        for _ in range(n):
            t += rnd.choice((1000, 1000, 1000, 200, 61_000))
            lat += rnd.gauss(0, 1e-5)
            lon += rnd.gauss(0, 1e-5)
            time_text = datetime.fromtimestamp(t / 1000, timezone.utc).isoformat(timespec="milliseconds")
            cells = [f"{rnd.uniform(-50, 500):.3f}", f"{rnd.uniform(0, 30):.3f}", f"{rnd.uniform(0, 360):.2f}"]
            cells += [f"{rnd.uniform(0, 90):.2f}", rnd.randint(0, 40), rnd.randint(0, 100)]
            writer.writerow((time_text, f"{lat:.9f}", f"{lon:.9f}", *[c if rnd.random() < 0.9 else "" for c in cells]))
    return path


@pytest.mark.parametrize("resolution", ["1e-5", "1e-6", "1e-7"])
@pytest.mark.parametrize("options", [[], ["--baseline"], ["--batch", "7"]])
def test_decoded_values_are_within_half_a_step(tmp_path, capsys, resolution, options):
    source = write_random_track(tmp_path / "in.csv")
    out = tmp_path / "out.plcap"
    code, summary = run_json(capsys, "pack", source, out, "--resolution", resolution, *options)
    assert code == 0 and summary["fixes"] == 500 and summary["left_out"] == 0
    steps = summary["resolution"]
    assert steps["lat_deg"] == float(resolution)
    decoded = decoded_rows(capsys, out)
    source_rows = list(csv.DictReader(source.open()))
    assert len(decoded) == len(source_rows)
    for a, b in zip(source_rows, decoded, strict=True):
        assert unix_ms(a["time"]) == unix_ms(b["time"])
        for name in NUMBERS:
            if name == "alt_m" and not a["alt_m"]:
                continue
            if not a[name]:
                assert b[name] == "", (name, SEED)
                continue
            error = abs(float(a[name]) - float(b[name]))
            if name == "course_deg":
                error = min(error, 360 - error)
            assert error <= steps[name] / 2 + 1e-9, (name, a, b, SEED)


@pytest.mark.parametrize("name", ["walk-1hz.csv", "run-1hz.csv", "cerknicko-jezero.gpx", "korita-zbevnica.gpx"])
def test_recorded_tracks_are_packed_within_the_resolution(tmp_path, capsys, name):
    code, summary = run_json(capsys, "pack", TRACKS / name, tmp_path / "t.plcap")
    assert code == 0
    frame_bytes = summary["frames"] * 13
    assert summary["bytes"] == summary["bytes_without_overhead"] + frame_bytes
    decoded = decoded_rows(capsys, tmp_path / "t.plcap")
    assert len(decoded) == summary["fixes"]
    if name.endswith("csv"):
        source_rows = list(csv.DictReader((TRACKS / name).open()))
        for a, b in zip(source_rows, decoded, strict=True):
            assert abs(float(a["lat_deg"]) - float(b["lat_deg"])) <= 0.5e-6 + 1e-12
            assert abs(float(a["lon_deg"]) - float(b["lon_deg"])) <= 0.5e-6 + 1e-12
            assert abs(float(a["alt_m"]) - float(b["alt_m"])) <= 0.25
            assert abs(float(a["speed_mps"]) - float(b["speed_mps"])) <= 0.05 + 1e-9


def test_packed_nmea_log_equals_the_fixes_of_its_receiver(tmp_path, capsys):
    log = TRACKS.parent / "nmea" / "ublox-8.log"
    code, summary = run_json(capsys, "pack", log, tmp_path / "n.plcap")
    assert code == 0 and summary["fixes"] > 50
    assert main(["fix", str(log)]) == 0
    fixes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    decoded = decoded_rows(capsys, tmp_path / "n.plcap")
    timed = [f for f in fixes if f["time"]]
    assert len(decoded) == len(timed)
    for a, b in zip(timed, decoded, strict=True):
        assert unix_ms(a["time"]) == unix_ms(b["time"]) and str(a["mode"]) == b["mode"]
        assert a["lat_deg"] is None or abs(a["lat_deg"] - float(b["lat_deg"])) <= 0.5e-6 + 1e-9


def test_tables_equal_csv(tmp_path, capsys):
    out = tmp_path / "out.plcap"
    assert main(["pack", str(write_random_track(tmp_path / "in.csv")), str(out)]) == 0
    rows = decoded_rows(capsys, out)
    assert main(["decode", str(out), "--format", "npz", "--output", str(tmp_path / "x.npz")]) == 0
    assert main(["decode", str(out), "--format", "parquet", "--output", str(tmp_path / "x.parquet")]) == 0
    npz = np.load(tmp_path / "x.npz")
    assert tuple(npz) == POSITION_COLUMNS
    parquet = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert len(rows) == len(parquet) == len(npz["time"])
    for i, row in enumerate(rows):
        assert int(npz["time"][i].astype("int64")) == unix_ms(row["time"])
        for name in NUMBERS:
            value = npz[name][i]
            unknown = math.isnan(value) if value.dtype.kind == "f" else value == -1
            if row[name] == "":
                assert unknown and parquet[i][name] is None, name
            else:
                assert float(row[name]) == pytest.approx(float(value), abs=1e-9) and float(row[name]) == pytest.approx(
                    parquet[i][name], abs=1e-9
                )
        assert str(npz["device"][i]) == row["device"] == parquet[i]["device"]
        assert str(npz["counter"][i]) == row["counter"] and str(bool(npz["date_suspect"][i])) == row["date_suspect"]


def test_omitted_columns_can_be_derived(tmp_path, capsys):
    out = tmp_path / "out.plcap"
    assert main(["pack", str(TRACKS / "walk-1hz.csv"), str(out), "--omit", "speed,course"]) == 0
    assert all(row["speed_mps"] == row["course_deg"] == "" for row in decoded_rows(capsys, out))
    rows = decoded_rows(capsys, out, "--derive")
    speeds = [float(row["speed_mps"]) for row in rows[1:]]
    assert 1 < sum(speeds) / len(speeds) < 2 and all(0 <= float(r["course_deg"]) < 360 for r in rows if r["course_deg"])


def test_options_change_size_as_expected(tmp_path, capsys):
    out = tmp_path / "o.plcap"
    complete = run_json(capsys, "pack", TRACKS / "walk-1hz.csv", out)[1]["bytes"]
    without_speed = run_json(capsys, "pack", TRACKS / "walk-1hz.csv", out, "--omit", "speed")[1]["bytes"]
    baseline = run_json(capsys, "pack", TRACKS / "walk-1hz.csv", out, "--baseline")[1]["bytes"]
    single = run_json(capsys, "pack", TRACKS / "walk-1hz.csv", out, "--batch", "1")[1]
    assert without_speed < complete < baseline < single["bytes"] and single["bytes_per_fix"] <= 32


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing.csv", "o.plcap"], "No such file"),
        (["in.csv", "o.plcap", "--batch", "0"], "--batch 0"),
        (["in.csv", "o.plcap", "--batch", "256"], "--batch 256"),
        (["in.csv", "o.plcap", "--omit", "lat"], "--omit lat"),
        (["in.csv", "o.plcap", "--device", "a b"], "--device"),
        (["in.csv", "in.csv"], "this is the input"),
        (["in.doc", "o.plcap"], "unknown kind of track"),
        (["noise.nmea", "o.plcap"], "no fix with a time"),
        (["range.csv", "o.plcap"], "outside -90..90"),
    ],
)
def test_invalid_input_is_an_error(tmp_path, capsys, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    write_random_track(tmp_path / "in.csv", 3)
    (tmp_path / "in.doc").write_text("x")
    (tmp_path / "noise.nmea").write_bytes(random.Random(SEED).randbytes(5000))
    (tmp_path / "range.csv").write_text("time,lat_deg,lon_deg\n2024-01-01T00:00:00Z,91,0\n")
    assert main(["pack", *args]) == 2
    assert message in capsys.readouterr().err


def test_decoded_csv_can_be_packed(tmp_path, capsys):
    first, second = tmp_path / "a.plcap", tmp_path / "b.plcap"
    assert main(["pack", str(write_random_track(tmp_path / "in.csv")), str(first)]) == 0
    assert main(["decode", str(first), "--format", "csv", "--output", str(tmp_path / "a.csv")]) == 0
    assert main(["pack", str(tmp_path / "a.csv"), str(second)]) == 0
    assert "unknown columns" not in capsys.readouterr().err
    a, b = decoded_rows(capsys, first), decoded_rows(capsys, second)
    keys = ("time", *NUMBERS)
    assert [[row[k] for k in keys if row["mode"] == "3"] for row in a] == [
        [row[k] for k in keys if row["mode"] == "3"] for row in b
    ]


def test_unknown_columns_and_rows_without_position_are_reported(tmp_path, capsys):
    source = tmp_path / "in.csv"
    source.write_text("time,lat_deg,lon_deg,mood\n2024-01-01T00:00:00Z,1,2,3\n2024-01-01T00:00:01Z,,,4\n")
    assert main(["pack", str(source), str(tmp_path / "o.plcap")]) == 0
    err = capsys.readouterr().err
    assert "unknown columns are ignored: mood" in err and "1 row without a position" in err


def test_values_out_of_range_are_reported_and_unknown(tmp_path, capsys):
    source = tmp_path / "in.csv"
    source.write_text(
        "time,lat_deg,lon_deg,alt_m,speed_mps\n2024-01-01T00:00:00Z,1,2,50000,3\n1960-01-01T00:00:00Z,1,2,3,4\n"
    )
    code, summary = run_json(capsys, "pack", source, tmp_path / "o.plcap")
    assert code == 0 and summary["unstorable"] == 1 and summary["left_out"] == 1 and summary["fixes"] == 1
    assert decoded_rows(capsys, tmp_path / "o.plcap")[0]["alt_m"] == ""


def test_pcap_has_every_frame(tmp_path, capsys):
    out = tmp_path / "o.plcap"
    packed = run_json(capsys, "pack", TRACKS / "walk-1hz.csv", out)[1]
    code, summary = run_json(capsys, "decode", out, "--format", "pcap", "--output", tmp_path / "o.pcap")
    assert code == 0 and summary["frames"] == packed["frames"] and summary["bytes"] == packed["bytes"]
    assert (tmp_path / "o.pcap").stat().st_size == 24 + packed["bytes"] + packed["frames"] * (16 + 2 + len("pack"))


@pytest.mark.parametrize("output_format", ["npz", "parquet", "pcap"])
def test_binary_formats_need_a_file(tmp_path, capsys, output_format):
    out = tmp_path / "o.plcap"
    assert main(["pack", str(TRACKS / "walk-1hz.csv"), str(out)]) == 0
    assert main(["decode", str(out), "--format", output_format]) == 2
    assert main(["decode", str(out), "--format", output_format, "--output", str(out)]) == 2
    assert main(["decode", str(out), "--format", output_format, "--output", str(tmp_path / "no" / "x")]) == 2
    assert "capture itself" in capsys.readouterr().err


def test_tables_and_decoder_have_equal_counts(tmp_path, capsys):
    """The capture has rejected and repeated frames, and frames of unknown devices."""
    from patrolink.core import keys
    from patrolink.core.capture import CaptureWriter, Record
    from patrolink.transport.file import open_capture

    out = tmp_path / "o.plcap"
    assert main(["pack", str(TRACKS / "walk-1hz.csv"), str(out)]) == 0
    capsys.readouterr()
    records = [r for r in open_capture(str(out)).records() if r]
    mixed = tmp_path / "mixed.plcap"
    writer = CaptureWriter(mixed)
    for i, r in enumerate(records):
        writer.write(r)
        if i % 5 == 0:
            writer.write(r)
        if i % 7 == 0:
            writer.write(Record(r.time_ms, "unknown", r.frame))
            writer.write(Record(r.time_ms, r.device, r.frame[:-1] + bytes([r.frame[-1] ^ 1])))
    writer.close()
    summaries = []
    for output_format in ("csv", "npz"):
        args = [
            "decode",
            str(mixed),
            "--format",
            output_format,
            "--output",
            str(tmp_path / "x"),
            "--keys",
            str(keys.sidecar(out)),
        ]
        assert main([*args, "--json"]) == 1
        summaries.append(summary(capsys.readouterr().out))
    assert summaries[0] == summaries[1] and summaries[0]["duplicates"] == 12
