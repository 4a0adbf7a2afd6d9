"""Peripherals of the POSIX HAL: gpsd, output pins, UDP, microphone, speaker, and buttons."""

import contextlib
import os
import pty
import select
import socket
import struct
import subprocess

import pytest
from compat.udp import UdpSocket
from hal.posix import audio, platform, serial_line
from patrolink.core import resources


class GpsdHarness:
    """A UART that is connected to an emulated gpsd, with a clock that the test sets."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.now_ms = 0
        self.log: list[str] = []
        url = f"gpsd://127.0.0.1:{self.server.getsockname()[1]}"
        self.inputs = platform.Inputs()
        self.uart = platform.Uart(url, lambda: self.now_ms, self.log.append, "gps", self.inputs)
        self.buf = bytearray(256)

    def accept(self) -> socket.socket:
        assert self.read() == b""
        peer, _ = self.server.accept()
        peer.settimeout(5)
        return peer

    def read(self) -> bytes:
        return bytes(self.buf[: self.uart.readinto(self.buf)])

    def receive(self, peer: socket.socket, text: bytes) -> None:
        """Send `text` from the server and check that the UART returns it."""
        peer.sendall(text)
        self.inputs.wait(5000)
        assert self.read() == text


def test_silent_gpsd_is_probed_and_then_disconnected():
    harness = GpsdHarness()
    peer = harness.accept()
    harness.receive(peer, b'{"class":"VERSION"}\r\n')
    assert peer.recv(256) == b'?WATCH={"enable":true,"nmea":true};\n'
    harness.now_ms = 5001
    assert harness.read() == b"" and peer.recv(256) == b"?VERSION;\n"
    harness.receive(peer, b'{"class":"VERSION"}\r\n')
    # Any data restarts the timeout. Without an answer to the probe, the connection is closed after a second timeout.
    harness.now_ms = 10002
    assert harness.read() == b"" and peer.recv(256) == b"?VERSION;\n"
    harness.now_ms = 15003
    assert harness.read() == b"" and peer.recv(256) == b"" and "hung up" in harness.log[-1]
    harness.now_ms = 16003
    peer = harness.accept()
    harness.receive(peer, b"hello\n")
    assert peer.recv(256).startswith(b"?WATCH")


def test_missing_gpsd_is_logged_once_and_retried():
    harness = GpsdHarness()
    harness.server.close()
    for harness.now_ms in range(0, 10_000, 100):
        assert harness.read() == b""
    assert len(harness.log) == 1


def test_invalid_gpsd_url_is_logged():
    log: list[str] = []
    uart = platform.Uart("gpsd://127.0.0.1:x", lambda: 0, log.append, "gps", platform.Inputs())
    assert uart.readinto(bytearray(8)) == 0
    assert "cannot open gpsd://127.0.0.1:x" in log[0]


def test_output_pin_is_a_gpio_or_an_led_with_full_brightness(tmp_path):
    gpio, led = tmp_path / "value", tmp_path / "brightness"
    (tmp_path / "max_brightness").write_text("255\n")
    for path, high in ((gpio, "1"), (led, "255")):
        pin = platform.Pin(str(path))
        pin.set(1)
        assert path.read_text() == high and pin.get()
        pin.set(0)
        assert path.read_text() == "0" and not pin.get()
    led.write_text("0\n")  # the kernel adds a line end
    assert not pin.get()


class Led:
    """An indicator that stays off while `stuck` is set."""

    def __init__(self) -> None:
        self.level, self.stuck = 0, False

    def set(self, level: int) -> None:
        self.level = 0 if self.stuck else level

    def get(self) -> bool:
        return bool(self.level)


def test_udp_socket_receives_single_datagrams_from_its_peer_only():
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    inputs = platform.Inputs()
    udp = UdpSocket("127.0.0.1", peer.getsockname()[1], inputs)
    buf = bytearray(64)
    assert udp.recv_into(buf) == 0
    udp.send(memoryview(b"hello"))
    data, source = peer.recvfrom(64)
    assert data == b"hello"
    other_peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other_peer.sendto(b"me", source)
    peer.sendto(b"one", source)
    peer.sendto(b"second", source)
    inputs.wait(5000)
    assert udp.recv_into(buf) == 3 and buf[:3] == b"one"
    assert udp.recv_into(buf) == 6 and buf[:6] == b"second"
    assert udp.recv_into(buf) == 0
    other_peer.close()
    peer.close()
    for _ in range(3):
        udp.send(b"to a closed port")  # the ICMP error is ignored
    assert udp.recv_into(buf) == 0
    udp.close()
    with pytest.raises(socket.gaierror):
        UdpSocket("no.such.host.invalid", 1, inputs)


@pytest.mark.parametrize("kind", ["pty", "fifo"])
def test_microphone_discards_stale_samples_and_works_only_while_its_indicator_is_on(tmp_path, kind):
    if kind == "pty":
        writer, reader = pty.openpty()
        path = os.ttyname(reader)
        serial_line.set_raw_mode(reader)
    else:
        path = str(tmp_path / "mic")
        os.mkfifo(path)
        writer = os.open(path, os.O_RDWR)
    led, log = Led(), []
    led.level = 1  # left on by a process that was killed
    mic = audio.Microphone(path, led, platform.Inputs(), log.append)
    assert led.level == 0
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:  # until the pty or the pipe is full, which is several seconds of samples
            os.write(writer, b"stale" * 64)
    os.set_blocking(writer, True)
    assert mic.open() and led.level == 1 and mic.read() == 0
    os.write(writer, bytes(range(256)))
    samples = b""
    while len(samples) < 256:
        assert select.select([mic._file], [], [], 5)[0]
        n = mic.read()
        samples += mic.buf[:n]
    assert samples == bytes(range(256)) and mic.read() == 0
    mic.close()
    assert led.level == 0
    led.stuck = True
    assert not mic.open() and "indicator" in log[-1]
    led.stuck = False
    missing = audio.Microphone(str(tmp_path / "none"), led, platform.Inputs(), log.append)
    assert not missing.open() and led.level == 0


def test_speaker_never_blocks(tmp_path):
    path = str(tmp_path / "speaker")
    os.mkfifo(path)
    log: list[str] = []
    clock = [0]
    speaker = audio.Speaker(path, lambda: clock[0], log.append)
    pcm = struct.pack("<80h", *range(80))
    for _ in range(3000):  # more than any pipe holds
        speaker.write(pcm)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 160) == pcm
    os.close(reader)
    missing = audio.Speaker(str(tmp_path / "none" / "x"), lambda: clock[0], log.append)
    for clock[0] in range(0, 3000, 10):
        missing.write(pcm)
    assert len(log) == 3


def test_end_of_input_releases_the_ptt_key(tmp_path, monkeypatch):
    path = str(tmp_path / "keys")
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    monkeypatch.setattr(platform, "open_unbuffered", lambda _, mode="rb": open(path, mode, 0))  # noqa: SIM115
    buttons = platform.Buttons(platform.Inputs(), None)
    os.write(writer, b"group 4294967295\nptt\n")
    assert (buttons.read(), buttons.read(), buttons.read()) == (b"group 4294967295", b"ptt", None)
    os.close(writer)
    assert (buttons.read(), buttons.read()) == (b"ptt-up", None)


_FIFO_READER = """
import sys
sys.path[:0] = [{device!r}, {protocol!r}]
from hal.posix import audio, platform as posix
class Led:
    level = 0
    def set(self, level): self.level = level
    def get(self): return self.level
mic = audio.Microphone({path!r}, Led(), posix.Inputs(), print)
assert mic.open() and not mic.read()
print("open")
samples = b""
while len(samples) < 480:
    samples += mic.buf[: mic.read()]
assert not mic.read()
mic.close()
print(samples == bytes(range(160)) * 3)
"""


def test_microphone_on_micropython_reads_a_fifo_without_blocking(tmp_path):
    path = str(tmp_path / "mic")
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    os.write(writer, bytes(320))  # stale
    code = _FIFO_READER.format(
        path=path, device=str(resources.root() / "device"), protocol=str(resources.root() / "protocol")
    )
    command = [*resources.interpreter("micropython"), "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        for _ in range(3):
            os.write(writer, bytes(range(160)))
        assert process.stdout.readline() == "True\n"
    os.close(writer)
