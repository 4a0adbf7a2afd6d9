"""Text that devices, hubs and USB descriptors supply does not control terminals, split lines or start formulas."""

import csv
import io
import json
import re
import subprocess
import sys
import types
import unicodedata

import paho.mqtt.client as paho
import patrolink_messages
import pytest
from patrolink.cli import main
from patrolink.core.capture import CaptureWriter, Record
from patrolink.core.text import csv_cell, json_text, plural, printable, printable_lines
from patrolink.evidence.clip_folders import ClipListing
from patrolink.report import formats, track
from patrolink.transport.mqtt import MqttTransport
from patrolink_protocol import codec, frame

from tests.support.paths import ROOT

KEY = bytes(range(32))
HOSTILE = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))),  # bidirectional controls
    "\u2028",
    "\u2029",
    "\ud800",
    "\U000e0001",
]
HARMLESS = "Zoë 巡逻 \U0001f600 [/red] \\"


@pytest.mark.parametrize("character", HOSTILE, ids=lambda c: f"{ord(c):04X}")
def test_hostile_character_is_escaped_everywhere(character):
    text = f"a{character}b"
    for safe in (printable(text), json_text({"text": text}), csv_cell(text)):
        assert character not in safe and all(unicodedata.category(c)[0] != "C" for c in safe) and safe.isprintable()
    assert json.loads(json_text({"text": text})) == {"text": text}


def test_harmless_text_is_unchanged():
    assert printable(HARMLESS) == csv_cell(HARMLESS) == HARMLESS
    assert json.loads(json_text(HARMLESS)) == HARMLESS and "巡逻" in json_text(HARMLESS)
    assert printable_lines("one\ntwo\x1b") == "one\ntwo\\x1b"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cell_does_not_start_a_formula(start):
    assert csv_cell(f"{start}1+1").startswith("'")


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "fix", "0 fixes"),
        (1, "fix", "1 fix"),
        (2, "frame", "2 frames"),
        (1, "byte", "1 byte"),
        (3, "bus", "3 buses"),
    ],
)
def test_plural(count, noun, text):
    assert plural(count, noun) == text


def hello(device: str, firmware: str) -> bytes:
    """Return a genuine frame with a text of the device's choice."""
    values = {"boot": 1, "schema_hash": 2, "heap_kb": 192, "date_floor": 0, "batch_fixes": 60, "minor": 0}
    values |= {"rollback_floor": 0, "platform": 0}
    texts = {"board": b"unix", "firmware": firmware.encode(), "runtime": b"micropython", "content": bytes(8)}
    buf = bytearray(1024)
    end = codec.encode_into(patrolink_messages.HELLO, {**values, "profiles": 0, **texts}, buf, frame.HEADER_BYTES)
    return bytes(buf[: frame.Channel(KEY, device.encode()).seal_into(buf, patrolink_messages.HELLO, 1, end)])


@pytest.mark.parametrize("verb", [["decode"], ["monitor"], ["monitor", "--json"]], ids=" ".join)
def test_verbs_escape_text_of_a_device(verb, tmp_path, capsys):
    firmware = "1\x9b2J\u202e\u2028"
    writer = CaptureWriter(tmp_path / "x.plcap")
    writer.write(Record(1_700_000_000_000, "dev-1", hello("dev-1", firmware)))
    writer.close()
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[devices]\n"dev-1" = "{KEY.hex()}"\n')
    keys.chmod(0o600)
    assert main([*verb, str(tmp_path / "x.plcap"), "--keys", str(keys)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) == out.count("\n") == (2 if "--json" in verb else 1)
    assert all(line.isprintable() for line in lines) and "2J" in out
    if out.startswith("{"):
        assert json.loads(lines[0])["firmware"] == firmware


def test_csv_of_device_id_is_no_formula_and_numbers_are_unchanged():
    row = dict.fromkeys(("time", "alt_m", "speed_mps", "course_deg", "hacc_m", "sats", "battery_pct", "mode"))
    row |= {"record": "position", "lat_deg": -38.5, "lon_deg": -9.25, "device": "-1+1", "counter": 1}
    out = io.StringIO()
    formats.write_csv([row], out)
    (cells,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert cells["device"] == "'-1+1" and cells["lat_deg"] == "-38.5" and cells["lon_deg"] == "-9.25"


def test_usb_descriptor_does_not_control_the_terminal(monkeypatch, capsys):
    from serial.tools import list_ports, list_ports_common

    port = list_ports_common.ListPortInfo("/dev/ttyUSB0")
    port.description, port.serial_number, port.vid, port.pid = "GPS\x1b[2J\u202e", "1\x9b", 0x1234, 0x5678
    monkeypatch.setattr(list_ports, "comports", lambda: [port])
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert out[:-1].isprintable() and "GPS\\x1b[2J\\u202e" in out


def test_list_of_clips_does_not_control_the_terminal():
    from patrolink.cli.clip_list import summary

    text = summary(ClipListing("dev\x1b[2J", 1, {"000001.plm": 1}, "sos\u202e", 0, None))
    assert text.isprintable() and "1 file," in text


def test_log_lines_escape_text_from_outside():
    code = (
        "import logging; from patrolink.cli import _start_log; _start_log(1); "
        "logging.getLogger('patrolink.fetch').info('%s', 'a\\x9b2J\\u202eb\\u2028c')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert result.stderr.splitlines()[-1].endswith("a\\x9b2J\\u202eb\\u2028c")


def test_geojson_is_printable():
    row = {"record": "position", "device": "a\x7f\x9b\u202e", "lat_deg": 1.0, "lon_deg": 2.0, "alt_m": None}
    out = io.StringIO()
    formats.write_geojson([row, row], out)
    assert out.getvalue()[:-1].isprintable()
    assert json.loads(out.getvalue())["features"][0]["properties"]["device"] == row["device"]


def test_topic_that_is_not_utf8_is_acknowledged_and_ignored():
    transport, acknowledged = MqttTransport.__new__(MqttTransport), []
    message = paho.MQTTMessage(mid=7, topic=b"p/\xff/u")
    message.qos = 1
    client = types.SimpleNamespace(ack=lambda *args: acknowledged.append(args))
    transport._on_message(client, None, message)
    assert acknowledged == [(7, 1)]


def test_page_of_a_track_leaves_out_unknown_values(tmp_path):
    track.write_html([], tmp_path / "map.html", "x", {"uart_overruns": None, "frames": 3})
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert "uart overruns" not in page and "<td>3</td>" in page


def test_counts_in_texts_of_the_tool_have_the_right_number():
    """A count is never followed by a fixed plural: `plural` forms it."""
    nouns = (
        "fixes|frames|bytes|pictures|positions|files|segments|bursts|changes|boards|devices|clips|epochs|events|rows"
    )
    fixed = re.compile(rf"\{{[^{{}}]*\}} ({nouns})\b")
    # Limits above 1, and text that is not shown for 1.
    allowed = ("_MAX", "_MAX_BYTES", "groups are named", "{limit}", "{hello", "bytes_per_fix", "at most")
    for path in (ROOT / "host_tools" / "patrolink").rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if fixed.search(line) and not any(mark in line for mark in allowed):
                raise AssertionError(f"{path}:{number}: {line.strip()}")
