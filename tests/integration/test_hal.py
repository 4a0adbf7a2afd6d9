"""Peripherals of the HAL of boards that are processes."""

import socket

from hal import posix


class Wire:
    """A gpsd that greets and takes what it is told, and a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.now = 0
        self.log: list[str] = []
        url = f"gpsd://127.0.0.1:{self.server.getsockname()[1]}"
        self.inputs = posix.Inputs()
        self.uart = posix.Uart(url, lambda: self.now, self.log.append, "gps", self.inputs)
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
    uart = posix.Uart("gpsd://127.0.0.1:x", lambda: 0, log.append, "gps", posix.Inputs())
    assert uart.readinto(bytearray(8)) == 0
    assert "cannot open gpsd://127.0.0.1:x" in log[0]


def test_an_output_is_a_gpio_or_an_led_at_its_brightest(tmp_path):
    gpio, led = tmp_path / "value", tmp_path / "brightness"
    (tmp_path / "max_brightness").write_text("255\n")
    for path, on in ((gpio, "1"), (led, "255")):
        pin = posix.Pin(str(path))
        pin.set(1)
        assert path.read_text() == on and pin.get()
        pin.set(0)
        assert path.read_text() == "0" and not pin.get()
    led.write_text("0\n")  # as the kernel says it
    assert not pin.get()
