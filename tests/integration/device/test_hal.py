"""Peripherals of the HAL of boards that are processes."""

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


class Wire:
    """A gpsd that greets and takes what it is told, and a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.now = 0
        self.log: list[str] = []
        url = f"gpsd://127.0.0.1:{self.server.getsockname()[1]}"
        self.inputs = platform.Inputs()
        self.uart = platform.Uart(url, lambda: self.now, self.log.append, "gps", self.inputs)
        self.buf = bytearray(256)

    def accept(self) -> socket.socket:
        assert self.read() == b""
        peer, _ = self.server.accept()
        peer.settimeout(5)
        return peer

    def read(self) -> bytes:
        return bytes(self.buf[: self.uart.readinto(self.buf)])

    def hear(self, peer: socket.socket, text: bytes) -> None:
        peer.sendall(text)
        self.inputs.wait(5000)
        assert self.read() == text


def test_gpsd_that_falls_silent_is_asked_and_then_given_up():
    wire = Wire()
    peer = wire.accept()
    wire.hear(peer, b'{"class":"VERSION"}\r\n')
    assert peer.recv(256) == b'?WATCH={"enable":true,"nmea":true};\n'
    wire.now = 5001
    assert wire.read() == b"" and peer.recv(256) == b"?VERSION;\n"
    wire.hear(peer, b'{"class":"VERSION"}\r\n')
    # An answer is as good as a fix; two silences in a row are not.
    wire.now = 10002
    assert wire.read() == b"" and peer.recv(256) == b"?VERSION;\n"
    wire.now = 15003
    assert wire.read() == b"" and peer.recv(256) == b"" and "hung up" in wire.log[-1]
    wire.now = 16003
    again = wire.accept()
    wire.hear(again, b"hello\n")
    assert again.recv(256).startswith(b"?WATCH")


def test_gpsd_that_is_not_there_is_told_once_and_tried_every_second():
    wire = Wire()
    wire.server.close()
    for wire.now in range(0, 10_000, 100):
        assert wire.read() == b""
    assert len(wire.log) == 1


def test_a_url_of_nonsense_is_told():
    log: list[str] = []
    uart = platform.Uart("gpsd://127.0.0.1:x", lambda: 0, log.append, "gps", platform.Inputs())
    assert uart.readinto(bytearray(8)) == 0
    assert "cannot open gpsd://127.0.0.1:x" in log[0]


def test_an_output_is_a_gpio_or_an_led_at_its_brightest(tmp_path):
    gpio, led = tmp_path / "value", tmp_path / "brightness"
    (tmp_path / "max_brightness").write_text("255\n")
    for path, on in ((gpio, "1"), (led, "255")):
        pin = platform.Pin(str(path))
        pin.set(1)
        assert path.read_text() == on and pin.get()
        pin.set(0)
        assert path.read_text() == "0" and not pin.get()
    led.write_text("0\n")  # as the kernel says it
    assert not pin.get()


class Led:
    def __init__(self) -> None:
        self.level, self.stuck = 0, False

    def set(self, level: int) -> None:
        self.level = 0 if self.stuck else level

    def get(self) -> bool:
        return bool(self.level)


def test_datagrams_come_one_by_one_from_the_peer_alone():
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    inputs = platform.Inputs()
    udp = UdpSocket("127.0.0.1", peer.getsockname()[1], inputs)
    buf = bytearray(64)
    assert udp.recv_into(buf) == 0
    udp.send(memoryview(b"hello"))
    data, source = peer.recvfrom(64)
    assert data == b"hello"
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.sendto(b"me", source)
    peer.sendto(b"one", source)
    peer.sendto(b"second", source)
    inputs.wait(5000)
    assert udp.recv_into(buf) == 3 and buf[:3] == b"one"
    assert udp.recv_into(buf) == 6 and buf[:6] == b"second"
    assert udp.recv_into(buf) == 0
    stranger.close()
    peer.close()
    for _ in range(3):
        udp.send(b"into the void")  # the refusal that comes back is nobody's matter
    assert udp.recv_into(buf) == 0
    udp.close()
    with pytest.raises(socket.gaierror):
        UdpSocket("no.such.host.invalid", 1, inputs)


@pytest.mark.parametrize("kind", ["pty", "fifo"])
def test_a_microphone_gives_what_is_fresh_and_only_while_its_indicator_is_on(tmp_path, kind):
    if kind == "pty":
        far, near = pty.openpty()
        path = os.ttyname(near)
        serial_line.set_raw_mode(near)
    else:
        path = str(tmp_path / "mic")
        os.mkfifo(path)
        far = os.open(path, os.O_RDWR)
    led, log = Led(), []
    led.level = 1  # a life before this one ended suddenly
    mic = audio.Microphone(path, led, platform.Inputs(), log.append)
    assert led.level == 0
    os.set_blocking(far, False)
    with contextlib.suppress(BlockingIOError):
        while True:  # as much as a line or a pipe holds: seconds
            os.write(far, b"stale" * 64)
    os.set_blocking(far, True)
    assert mic.open() and led.level == 1 and mic.read() == 0
    os.write(far, bytes(range(256)))
    got = b""
    while len(got) < 256:
        assert select.select([mic._file], [], [], 5)[0]
        n = mic.read()
        got += mic.buf[:n]
    assert got == bytes(range(256)) and mic.read() == 0
    mic.close()
    assert led.level == 0
    led.stuck = True
    assert not mic.open() and "indicator" in log[-1]
    led.stuck = False
    lost = audio.Microphone(str(tmp_path / "none"), led, platform.Inputs(), log.append)
    assert not lost.open() and led.level == 0


def test_a_speaker_takes_samples_and_never_waits(tmp_path):
    path = str(tmp_path / "speaker")
    os.mkfifo(path)
    log: list[str] = []
    clock = [0]
    speaker = audio.Speaker(path, lambda: clock[0], log.append)
    pcm = struct.pack("<80h", *range(80))
    for _ in range(3000):  # more than any pipe holds
        speaker.write(pcm)
    far = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(far, 160) == pcm
    os.close(far)
    lost = audio.Speaker(str(tmp_path / "none" / "x"), lambda: clock[0], log.append)
    for clock[0] in range(0, 3000, 10):
        lost.write(pcm)
    assert len(log) == 3


def test_the_end_of_input_lets_go_of_the_key(tmp_path, monkeypatch):
    path = str(tmp_path / "keys")
    os.mkfifo(path)
    far = os.open(path, os.O_RDWR)
    monkeypatch.setattr(platform, "open_unbuffered", lambda _, mode="rb": open(path, mode, 0))  # noqa: SIM115
    buttons = platform.Buttons(platform.Inputs(), None)
    os.write(far, b"group 4294967295\nptt\n")
    assert (buttons.read(), buttons.read(), buttons.read()) == (b"group 4294967295", b"ptt", None)
    os.close(far)
    assert (buttons.read(), buttons.read()) == (b"ptt-up", None)


_READS_A_FIFO = """
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
got = b""
while len(got) < 480:
    got += mic.buf[: mic.read()]
assert not mic.read()
mic.close()
print(got == bytes(range(160)) * 3)
"""


def test_micropython_reads_a_fifo_without_waiting(tmp_path):
    path = str(tmp_path / "mic")
    os.mkfifo(path)
    far = os.open(path, os.O_RDWR)
    os.write(far, bytes(320))  # stale
    code = _READS_A_FIFO.format(
        path=path, device=str(resources.root() / "device"), protocol=str(resources.root() / "protocol")
    )
    command = [*resources.interpreter("micropython"), "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        for _ in range(3):
            os.write(far, bytes(range(160)))
        assert process.stdout.readline() == "True\n"
    os.close(far)
