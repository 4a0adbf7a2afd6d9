"""The emulated receiver plays a track completely, in time and at the baud rate of the line."""

import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pynmea2
import pytest
from patrolink.core import tracks
from patrolink.core.errors import UserError
from patrolink.emulator.network.broker import Broker
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.emulator.peripherals.modem_port import ModemPort
from patrolink.emulator.scenarios import control_room

from tests.support.polling import TIMEOUT_S, wait_until

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden"
GPX = (
    '<gpx version="1.1" creator="x"><trk><trkseg><trkpt lat="{lat}" lon="2"><time>2024-01-01T00:00:00Z</time>'
    "</trkpt></trkseg></trk></gpx>"
)


def read_all(receiver: GpsReceiver, n: int, seconds: float = TIMEOUT_S) -> bytes:
    fd = os.open(receiver.path, os.O_RDONLY | os.O_NOCTTY)
    got = b""
    deadline = time.monotonic() + seconds
    while len(got) < n and time.monotonic() < deadline:
        got += os.read(fd, 4096)
    os.close(fd)
    return got


@pytest.mark.parametrize("name", ["walk-1hz.csv", "run-1hz.csv", "korita-zbevnica.gpx", "cerknicko-jezero.gpx"])
def test_receiver_plays_the_track(name):
    points = tracks.read(GOLDEN / "tracks" / name)[:300]
    assert len(points) > 50
    for point, (_, block) in zip(points, nmea.speak(points), strict=True):
        for line in block.decode().splitlines():
            sentence = pynmea2.parse(line, check=True)
            if sentence.sentence_type in ("RMC", "GGA"):
                assert math.isclose(sentence.latitude, point.lat_deg, abs_tol=2e-8)
                assert math.isclose(sentence.longitude, point.lon_deg, abs_tol=2e-8)
            if sentence.sentence_type == "RMC":
                assert round(sentence.datetime.timestamp() * 1000) == point.time_ms


def test_every_byte_of_a_log_is_replayed():
    log = GOLDEN / "nmea" / "ublox-8.log"
    assert b"".join(block for _, block in nmea.replay(log)) == log.read_bytes()
    times = [at for at, _ in nmea.replay(log)]
    assert times == sorted(times) and len(times) == 73


def test_no_byte_is_lost_to_a_slow_reader():
    points = tracks.read(GOLDEN / "tracks" / "walk-1hz.csv")[:200]
    whole = b"".join(block for _, block in nmea.speak(points))
    receiver = GpsReceiver(nmea.speak(points), speed=1e6)
    receiver.start()
    time.sleep(0.3)
    assert read_all(receiver, len(whole)) == whole
    receiver.close()
    assert receiver.bytes_sent == len(whole)


def test_baud_rate_and_timing():
    block = b"x" * 960
    receiver = GpsReceiver([(0.0, block), (1.0, block)], speed=2, baud=9600)
    start = time.monotonic()
    receiver.start()
    assert read_all(receiver, 960) == block
    at_line_speed = time.monotonic() - start
    assert read_all(receiver, 960) == block
    both = time.monotonic() - start
    receiver.close()
    # 960 bytes of ten bits at 19200 baud take 0.5 s; the second epoch is due at 0.5 s.
    assert at_line_speed > 0.4 and both > 0.9


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "time,lat\n", "no column lat_deg, lon_deg"),
        ("a.csv", "time,lat_deg,lon_deg\n2024-01-01T00:00:00Z,x,1\n", "line 2: column lat_deg"),
        ("a.csv", "time,lat_deg,lon_deg\nyesterday,1,1\n", "line 2: column time"),
        ("a.csv", "time,lat_deg,lon_deg\n2024-01-01T00:00:00Z,1\n", "line 2: column lon_deg"),
        ("a.csv", "time,lat_deg,lon_deg,alt_m\n2024-01-01T00:00:00Z,1,1,nan\n", "column alt_m: nan is outside"),
        ("a.csv", "time,lat_deg,lon_deg\n2024-01-01T00:00:00Z,91,1\n", "outside -90..90"),
        ("a.csv", "time,lat_deg,lon_deg\n", "no point has a time"),
        ("a.gpx", "<gpx", "not GPX"),
        ("a.gpx", GPX.format(lat=95), "2024-01-01.*column lat_deg: 95 is outside"),
        ("a.gpx", GPX.format(lat="x"), "not GPX"),
        ("a.txt", "", "a track is a .csv or .gpx file"),
    ],
)
def test_bad_tracks_are_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        tracks.read(path)


def test_log_without_times(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"nothing\r\n")
    with pytest.raises(UserError, match="no NMEA sentence"):
        nmea.replay(path)
    with pytest.raises(UserError, match="No such file"):
        nmea.replay(tmp_path / "missing.log")


def test_binary_track_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\x83\xff\x00\n")
    with pytest.raises(UserError, match="not comma-separated text"):
        tracks.read(path)


def test_log_without_fix_plays_one_epoch_per_second(tmp_path):
    path = tmp_path / "cold.log"
    block = nmea.sentence("GPRMC,,V,,,,,,,,,,N") + nmea.sentence("GPGGA,,,,,,0,00,,,M,,M,,")
    path.write_bytes(b"# header\n" + block * 3)
    epochs = nmea.replay(path)
    assert [at for at, _ in epochs] == [0, 1, 2]
    assert b"".join(data for _, data in epochs) == path.read_bytes()


def test_path_of_a_closed_line_is_not_reused():
    """The kernel reuses the number of a PTY; the name that a device may be waiting for is not reused."""
    first = GpsReceiver([])
    assert os.readlink(first.path).startswith("/dev/pts/")
    first.close()
    second = GpsReceiver([])
    assert not os.path.lexists(first.path) and second.path != first.path
    second.close()


def test_pause_in_a_track_is_shortened():
    receiver = GpsReceiver([(0.0, b"a"), (3600.0, b"b")], speed=25)
    start = time.monotonic()
    receiver.start()
    assert read_all(receiver, 2) == b"ab"
    receiver.close()
    # Pauses last at most 5 s of track time, at 25 times the speed; for the full pause of 144 s nothing would be read.
    assert time.monotonic() - start > 0.15


def test_embedded_broker_serves():
    import paho.mqtt.publish as publish

    broker = Broker(embedded=True)
    try:
        publish.single("p/x/u", b"hello", qos=1, port=broker.port)
    finally:
        broker.stop()
    assert broker.name.startswith("amqtt ")


def test_concurrent_port_requests_get_different_ports(monkeypatch):
    """Two processes get different ports, although neither has bound them yet."""
    few = range(20_000, 20_040)
    monkeypatch.setattr(control_room, "_PORTS", few)
    own_ports = control_room.free_ports(10, socket.SOCK_DGRAM) + control_room.free_ports(10, socket.SOCK_STREAM)
    ask = (
        f"import socket; from patrolink.emulator.scenarios import control_room as station; station._PORTS = {few}; "
        "print(*station.free_ports(10, socket.SOCK_DGRAM))"
    )
    other_ports = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert len({*own_ports, *map(int, other_ports)}) == 30


def test_modem_restarts_when_the_file_of_its_reset_line_changes(tmp_path):
    port = ModemPort(tmp_path, "quectel", PROFILES["city"], 1)
    try:
        boots = port.modem.boots
        port.reset_pin.write_text("1")
        wait_until(lambda: port.modem.boots == boots + 1)
    finally:
        port.close()
