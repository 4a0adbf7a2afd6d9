"""`patrolink monitor`: lines, JSON, live view, limits, and the output for unverified frames."""

import fcntl
import json
import os
import pty
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
import tty

import patrolink_messages
import pytest
from patrolink.cli import main
from patrolink.core.capture import CaptureReader, CaptureWriter, Record
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.core.track_packer import Fix, TrackPacker
from patrolink.report.alerts import Alerts
from patrolink.report.device_table import DeviceTable
from patrolink.transport.serial_line import SerialTransport, pack_frame
from patrolink_protocol import codec, frame, track_encoder
from rich.console import Console

from tests.support.json_lines import summary
from tests.support.polling import wait_until, wait_until_opened

KEY = bytes(range(32))
NOW = 1_700_000_000_123


def hello_frame(counter: int, firmware: bytes = b"1.0") -> bytes:
    """Return an authentic frame of dev-1."""
    values = {"boot": 1, "schema_hash": 2, "heap_kb": 192, "date_floor": 0, "batch_fixes": 60}
    values |= {"minor": 0, "profiles": 0, "rollback_floor": 0, "platform": 0}
    buf = bytearray(1024)
    texts = {"board": b"unix", "firmware": firmware, "runtime": b"micropython", "content": bytes(8)}
    end = codec.encode_into(1, {**values, **texts}, buf, frame.HEADER_BYTES)
    return bytes(buf[: frame.Channel(KEY, b"dev-1").seal_into(buf, 1, counter, end)])


@pytest.fixture
def capture(tmp_path):
    """Return a capture with an authentic frame, its repetition, and a frame of a device without a key."""
    path = tmp_path / "x.plcap"
    writer = CaptureWriter(path)
    for device, data in (("dev-1", hello_frame(7)), ("dev-1", hello_frame(7)), ("dev-2", hello_frame(8))):
        writer.write(Record(NOW, device, data))
    writer.close()
    return path


@pytest.fixture
def line():
    """Open a PTY; yield (descriptor of the controlling end, path of the port)."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(slave)


def test_monitor_prints_one_line_per_frame(capture, keys_file, capsys):
    assert main(["monitor", str(capture), "--keys", keys_file]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith("dev-1: hello boot=1") and lines[1].startswith("dev-1: repeated")
    assert lines[2] == f"dev-2: refused (no key): unverified, type 1, counter 8, {len(hello_frame(8))} bytes"
    assert captured.err == "3 frames, 0 fixes, 1 repeated, 1 refused (key)\n"


def test_without_keys_no_content_is_shown(capture, capsys):
    for options in ([], ["--json"]):
        assert main(["monitor", str(capture), *options]) == 1
        captured = capsys.readouterr()
        assert "no device keys" in captured.err
        assert "hello" not in captured.out and "micropython" not in captured.out
        assert len(captured.out.splitlines()) == (4 if options else 3)
    row = json.loads(captured.out.splitlines()[0])
    size = len(hello_frame(7))
    assert row == {"record": "rejected", "device": "dev-1", "reason": "key", "type": 1, "counter": 7, "bytes": size}


def test_damaged_capture_sets_the_exit_code(capture, keys_file, capsys):
    capture.write_bytes(capture.read_bytes()[:-3])
    assert main(["monitor", str(capture), "--keys", keys_file]) == 1
    assert "the last record is incomplete" in capsys.readouterr().err


def test_count_ends_monitoring(capture, keys_file, capsys):
    assert main(["monitor", str(capture), "--keys", keys_file, "--count", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("option", [("--count", "0"), ("--count", "x"), ("--for", "-1"), ("--for", "nan")])
def test_invalid_limits_are_usage_errors(capture, option, capsys):
    with pytest.raises(SystemExit) as e:
        main(["monitor", str(capture), *option])
    assert e.value.code == 2 and capsys.readouterr().out == ""


def test_record_must_not_be_the_capture(capture, keys_file, capsys):
    before = capture.read_bytes()
    assert main(["monitor", str(capture), "--keys", keys_file, "--record", str(capture)]) == 2
    assert "the capture itself" in capsys.readouterr().err and capture.read_bytes() == before


def test_unverified_frames_are_recorded(capture, tmp_path, capsys):
    record = tmp_path / "record.plcap"
    assert main(["monitor", str(capture), "--record", str(record)]) == 1
    assert record.read_bytes() == capture.read_bytes()


def test_text_of_device_does_not_control_terminal(tmp_path, keys_file, capsys):
    writer = CaptureWriter(tmp_path / "x.plcap")
    writer.write(Record(NOW, "dev-1", hello_frame(1, b"\x1b[2J\x07")))
    writer.close()
    assert main(["monitor", str(tmp_path / "x.plcap"), "--keys", keys_file]) == 0
    out = capsys.readouterr().out
    assert "firmware=\\x1b[2J\\x07" in out and "\x1b" not in out


def test_time_limit_ends_silent_line(line, keys_file, capsys):
    start_s = time.monotonic()
    assert main(["monitor", line[1], "--keys", keys_file, "--for", "0.5"]) == 0
    assert time.monotonic() - start_s > 0.4
    assert "0 frames" in capsys.readouterr().err
    os.close(line[0])


def test_disconnected_port_is_an_error_and_the_record_is_complete(line, keys_file, tmp_path, capsys):
    record = tmp_path / "r.plcap"

    def send_and_disconnect():
        wait_until_opened(line[1])
        os.write(line[0], b"noise\0" + pack_frame(hello_frame(1)))
        wait_until(lambda: record.stat().st_size > len(hello_frame(1)))
        os.close(line[0])

    threading.Thread(target=send_and_disconnect).start()
    command = ["monitor", line[1], "--device", "dev-1", "--keys", keys_file, "--for", "60", "--record", str(record)]
    assert main(command) == 3
    err = capsys.readouterr().err
    assert "the port was disconnected" in err and "1 invalid block" in err
    with record.open("rb") as f:
        assert [r.frame for r in CaptureReader(f, "r")] == [hello_frame(1)]


def test_invalid_device_id_is_an_error(line, capsys):
    assert main(["monitor", line[1], "--device", "a/b"]) == 2
    assert "--device 'a/b'" in capsys.readouterr().err
    os.close(line[0])


def test_frames_are_assembled_from_pieces(line):
    transport = SerialTransport(line[1], "dev-1", {})
    data = pack_frame(hello_frame(1)) + pack_frame(hello_frame(2))

    def send_in_pieces():
        for i in range(0, len(data), 5):
            os.write(line[0], data[i : i + 5])
            time.sleep(0.002)

    thread = threading.Thread(target=send_in_pieces)
    thread.start()
    frames = []
    for record in transport.records():
        frames += [record.frame] if record else []
        if len(frames) == 2:
            break
    thread.join()
    transport.close()
    os.close(line[0])
    assert frames == [hello_frame(1), hello_frame(2)]


def test_frames_of_extreme_size_do_not_end_monitoring(broker, keys_file, tmp_path, capsys):
    import paho.mqtt.publish as publish

    record = tmp_path / "r.plcap"

    def send():
        while not record.exists():  # monitor creates the file after the subscription
            time.sleep(0.02)
        frames = [("p/dev-1/u", data, 1, False) for data in (b"", b"x" * 70_000, hello_frame(1))]
        publish.multiple(frames, port=broker.port)

    thread = threading.Thread(target=send)
    thread.start()
    command = ["monitor", broker.url, "--keys", keys_file, "--count", "3", "--for", "60", "--record", str(record)]
    assert main([*command, "--json"]) == 1
    thread.join()
    counts = summary(capsys.readouterr().out)
    assert counts["rejected"] == {"length": 2} and counts["dropped"] == 0
    with record.open("rb") as f:
        assert list(CaptureReader(f, "r"))[-1].frame == hello_frame(1)


@pytest.mark.parametrize("url", ["mqtt://[::1", "mqtt://", "mqtt://u:hunter2@[::1", "mqtts://h:99999"])
def test_invalid_url_is_an_error(url, capsys):
    assert main(["monitor", url]) == 2
    err = capsys.readouterr().err
    assert "mqtt://host:1883" in err and "hunter2" not in err


@pytest.fixture(scope="module")
def self_signed_server(tmp_path_factory):
    """Run a TLS server with a self-signed certificate for another host; yield (port, certificate file)."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to create a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key",
        "-out",
        "crt",
        "-days",
        "2",
        "-subj",
        "/CN=elsewhere",
    ]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:elsewhere"], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                with context.wrap_socket(server.accept()[0], server_side=True) as peer:
                    peer.recv(100)
            except ssl.SSLError:
                continue
            except OSError:
                if server.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1], folder / "crt"
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize(("trusted", "reason"), [(False, "self-signed"), (True, "not valid for '127.0.0.1'")])
def test_broker_certificate_is_verified(self_signed_server, monkeypatch, capsys, trusted, reason):
    port, certificate = self_signed_server
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert main(["monitor", f"mqtts://127.0.0.1:{port}"]) == 3
    err = capsys.readouterr().err
    assert "certificate is not trusted" in err and reason in err.replace("self signed", "self-signed")


def rendered(table: DeviceTable, width: int) -> str:
    console = Console(width=width)
    with console.capture() as out:
        console.print(table)
    return out.get()


def test_live_view_bounds_unverified_devices():
    decoder, table = Decoder({"dev-1": DeviceKey(KEY)}), DeviceTable("[/red] $x")
    records = [Record(NOW, f"unknown-{i}", b"x" * 20) for i in range(100)] + [Record(NOW, "dev-1", hello_frame(1))]
    for record in records:
        table.update(record, decoder.rows(record), decoder.stats)
    text = rendered(table, 120)
    assert text.count("unknown-") == 32 and text.count("unverified") == 32
    assert "dev-1" in text and "[/red] $x" in text and "101 frames" in text and "100 refused" in text


def test_live_view_fits_80_columns():
    table = DeviceTable("x")
    stats = Decoder({}).stats
    row = {"record": "position", "time": "2026-01-01T10:20:30.000Z", "lat_deg": 38.756456, "lon_deg": -9.259508}
    row |= {"alt_m": 103.4, "speed_mps": 1.88, "mode": 3, "battery_pct": 100}
    table.update(Record(NOW, "emulated-1", b""), [row], stats)
    for width in (80, 120):
        text = rendered(table, width)
        for cell in ("emulated-1", "10:20:30", "38.756456 -9.259508", "6.8", "3D", "100", "refused"):
            assert cell in text
        assert "…" not in text and ("103.4" in text) == (width == 120)
    table.update(Record(NOW, "d" * 32, b""), [row | {"lon_deg": -179.259508}], stats)
    text = rendered(table, 80)
    assert "38.756456 -179.259508" in text and text.count("d") >= 32 and "10:20:30" in text and "refused" in text


def on_terminal(command: list[str], columns: int, **env: str) -> tuple[int, str]:
    """Run a verb on a pseudo terminal; return its exit code and the text that the terminal received."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    result = subprocess.run(
        [sys.executable, "-m", "patrolink", *command],
        stdout=slave,
        stderr=subprocess.PIPE,
        env={**inherited, "TERM": "xterm-256color", **env},
        timeout=60,
    )
    os.set_blocking(master, False)
    received = os.read(master, 1 << 20).decode()
    os.close(slave)
    os.close(master)
    return result.returncode, received


@pytest.mark.parametrize("color", [True, False])
def test_terminal_shows_live_view(capture, keys_file, color):
    """With NO_COLOR the output has no colours."""
    env = {} if color else {"NO_COLOR": "1"}
    code, text = on_terminal(["monitor", str(capture), "--keys", keys_file], 100, **env)
    assert code == 1 and "dev-1" in text and "3 frames" in text
    assert color or not re.search(r"\x1b\[[0-9;]*3[0-7]m", text)


def seal(kind: int, values: dict, counter: int) -> bytes:
    buf = bytearray(1024)
    end = codec.encode_into(kind, values, buf, frame.HEADER_BYTES)
    return bytes(buf[: frame.Channel(KEY, b"dev-1").seal_into(buf, kind, counter, end)])


def event(counter: int, event_id: int, kind: int, phase: int) -> bytes:
    values = {"event_id": event_id, "kind": kind, "phase": phase, "ack_wanted": 1, "cause": 0, "time_ms": NOW}
    unknown = dict.fromkeys(("lat_e7", "lon_e7", "hacc_m", "fix_age_s", "ref", "value"))
    return seal(patrolink_messages.EVENT, {**values, **unknown, "text": b""}, counter)


def position_frames(first: int) -> list[bytes]:
    packer = TrackPacker(frame.Channel(KEY, b"dev-1"), track_encoder.TrackEncoder(2), first)
    names = ("alt_m", "speed_mps", "course_deg", "hacc_m", "sats", "battery_pct")
    values = {**dict.fromkeys(names), "lat_deg": -38.756456, "lon_deg": -179.259508, "speed_mps": 33.3}
    fixes = [Fix(NOW + i, 3, {**values, "battery_pct": 100}) for i in range(2)]
    return [data for _, data in packer.frames(fixes)]


def test_terminal_of_60_columns_shows_events_and_errors_before_positions(tmp_path, keys_file):
    path = tmp_path / "x.plcap"
    writer = CaptureWriter(path)
    answer = {"command_id": 1, "result": 5, "time_ms": NOW, "ref": None, "text": b"no"}
    frames = [
        event(1, 1, 8, 0),
        event(2, 7, 1, 0),
        seal(patrolink_messages.ANSWER, answer, 3),
        event(4, 8, 2, 0),
        event(5, 8, 2, 2),
        *position_frames(6),
    ]
    for data in (*frames, bytes(20)):
        writer.write(Record(NOW, "dev-1", data))
    writer.close()
    code, text = on_terminal(["monitor", str(path), "--keys", keys_file], 60)
    view = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "").split("x.plcap")[-1]
    lines = [line.rstrip() for line in view.splitlines()]
    assert code == 1 and all(len(line) <= 60 for line in lines), view
    rows = [line.split() for line in lines if line.startswith("22:13:20")]
    assert [row[2:] for row in rows] == [
        ["sos", "raised"],
        ["man_down", "cancelled"],
        ["low_battery", "raised"],
        ["refused", "version"],
        ["answer", "failed"],
    ], view
    assert all(row[1] == "dev-1" for row in rows)
    (position,) = [line.split() for line in lines if line.startswith("dev-1")]
    assert position[:6] == ["dev-1", "22:13:20", "-38.756456", "-179.259508", "119.9", "100"], view
    assert view.index("answer") < view.index("-38.756456")


def test_alerts_are_bounded_and_keep_the_emergency():
    alerts = Alerts()
    record = Record(NOW, "dev-1", b"")
    row = {"record": "event", "phase": "raised", "time_ms": None}
    alerts.add_rows(record, [{**row, "kind": "sos", "event_id": 0}])
    for event_id in range(1, 1000):
        alerts.add_rows(record, [{**row, "kind": "low_battery", "event_id": event_id}])
        alerts.add_refusal(record, f"reason {event_id}")
    assert len(alerts) == 256
    assert [(alert.kind, alert.order) for alert in alerts.most_urgent(2)] == [("sos", 1), ("low_battery", 1998)]
    alerts.add_rows(record, [{**row, "kind": "sos", "event_id": 0, "phase": "cleared"}])
    assert [alert.state for alert in alerts.most_urgent(2)] == ["cleared", "raised"]
