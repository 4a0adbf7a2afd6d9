"""The VC0706 driver on a virtual clock: a camera in time is found at each rate, without a fault or a reset."""

from agent.recording.vc0706 import Camera
from agent.recording.vc0706_config import RATES

JPEG = b"\xff\xd8" + bytes([i * 7 & 127 for i in range(3000)]) + b"\xff\xd9"
RESET, VERSION, SET_PORT, CONTROL, LENGTH, READ = 0x26, 0x11, 0x24, 0x36, 0x34, 0x32


class SerialCamera:
    """The camera at the other end of a UART: bytes take their time, and another rate makes noise of them.

    Attributes:
        baud: Its rate.
        resets: Number of reset commands.
    """

    def __init__(self, clock, baud):
        self.clock = clock
        self.baud = baud
        self.resets = 0
        self._device_baud = 0
        self._sent = []  # (ms of arrival, byte)

    def set_baud(self, baud):
        self._device_baud = baud

    def write(self, command):
        if self._device_baud != self.baud:
            return
        name, data = command[2], bytes(command[4:])
        if name == RESET:
            self.resets += 1
        elif name == VERSION:
            self._answer(name, b"VC0703 1.00")
        elif name == SET_PORT:
            self._answer(name)
            self.baud = [rate for rate, port in RATES.items() if port[1:] == data][0]
        elif name == LENGTH:
            self._answer(name, len(JPEG).to_bytes(4, "big"))
        elif name == READ:
            begin, n = int.from_bytes(data[2:6], "big"), int.from_bytes(data[6:10], "big")
            self._answer(name)
            self._send(JPEG[begin : begin + n])
            self._answer(name)
        else:
            self._answer(name)

    def readinto(self, buffer):
        n = 0
        while n < len(buffer) and self._sent and self._sent[0][0] <= self.clock.now:
            buffer[n] = self._sent.pop(0)[1]
            n += 1
        return n or None

    def _answer(self, command, data=b""):
        self._send(bytes((0x76, 0, command, 0, len(data))) + data)

    def _send(self, data):
        at = max(self._sent[-1][0] if self._sent else 0, self.clock.now)
        for byte in data:
            at += 10_000 / self.baud
            self._sent.append((at, byte))


class Clock:
    now = 0

    def now_ms(self):
        return self.now


class Pin:
    def __init__(self):
        self.level = 0

    def set(self, level):
        self.level = level

    def get(self):
        return self.level


def run(baud, camera_baud, seconds=4):
    """Let a driver for a rate find a camera at another; return camera, pictures and the log."""
    clock, pin, log = Clock(), Pin(), []
    camera = SerialCamera(clock, camera_baud)
    settings = {"width": 160, "height": 120, "fps": 5, "baud": baud}
    driver = Camera(camera, pin, clock.now_ms, log.append, settings)
    driver.open()
    pictures = []
    for clock.now in range(0, seconds * 1000, 5):
        got = driver.frame()
        if got is not None:
            assert pin.level
            pictures.append(bytes(got[0]))
    return camera, pictures, log


def test_camera_is_found_at_each_rate_without_a_fault():
    for baud in (38400, 115200, 460800):
        for camera_baud in RATES:
            camera, pictures, log = run(baud, camera_baud)
            assert camera.baud == baud and camera.resets == 0 and log == [], (baud, camera_baud, log)
            assert len(pictures) >= 3 and set(pictures) == {JPEG}, (baud, camera_baud, len(pictures))


def test_silent_camera_is_reset_and_named():
    camera, pictures, log = run(115200, 1, seconds=10)
    assert pictures == [] and log == ["camera: no response; check its power and its wiring"]
