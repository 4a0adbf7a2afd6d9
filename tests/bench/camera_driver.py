"""Measure the cost of a picture on the emulated board. bench_camera.py enters the import at the board's prompt.

bench_camera.py prepends LINE and SECONDS to this file. If LINE is true, the driver takes pictures of the camera on UART
3 for SECONDS. Otherwise it counts instructions; the camera's responses come from memory. Prints one line of JSON and
powers the board off.
"""

import gc
import json
from time import ticks_cpu, ticks_diff

import machine
from agent.recording import vc0706
from agent.recording.avi import AviMuxer
from hal.baremetal import platform

UART, PIN = 3, 3
SIZE, FPS = (160, 120), 2
BYTES = 4000
ROUNDS = 8
SOUND = bytes(160)  # 10 ms


class FakeIndicator:
    """An indicator that always works."""

    def set(self, level):
        pass

    def get(self):
        return True


class FakeUart:
    """A UART whose camera answers each command from memory."""

    def __init__(self, jpeg):
        self._jpeg = jpeg
        self._response = b""
        self._view = memoryview(b"")
        self._responses = {c: bytes((0x76, 0, c, 0, 0)) for c in (0x11, 0x54, 0x31, 0x36, 0x32)}
        self._responses[0x34] = bytes((0x76, 0, 0x34, 0, 4, 0, 0, len(jpeg) >> 8, len(jpeg) & 255))
        self._pieces = {}
        for at in range(0, len(jpeg), 1024):
            self._pieces[at] = memoryview(self._responses[0x32] + jpeg[at : at + 1024] + self._responses[0x32])
        self._at = 0

    def set_baud(self, baud):
        pass

    def write(self, data):
        command = data[2]
        self._at = 0
        self._response = self._pieces[data[8] << 8 | data[9]] if command == 0x32 else self._responses[command]

    def readinto(self, buf):
        """Read up to 64 bytes: the amount that arrives between two rounds of the loop."""
        n = min(64, len(self._response) - self._at, len(buf))
        vc0706.move(self._response, self._at, buf, 0, n)
        self._at += n
        return n


def count_costs():
    """Return the cycles and allocated bytes per picture of each part. A cycle is 2.5 instructions."""
    jpeg = b"\xff\xd8" + bytes([i * 7 & 127 for i in range(BYTES - 4)]) + b"\xff\xd9"
    now = [0]
    settings = {"width": SIZE[0], "height": SIZE[1], "fps": FPS, "picture_kb": 6}
    camera = vc0706.Camera(FakeUart(jpeg), FakeIndicator(), lambda: now[0], print, settings)
    camera.open()

    def picture():
        while True:
            frame = camera.frame()
            if frame is not None:
                return frame
            now[0] += 20

    def discard(time_ms, head, data=None, pad=None):
        pass

    avi = AviMuxer(SIZE[0], SIZE[1], FPS, True)
    avi.begin(discard)
    frame = picture()

    def write():
        avi.picture(frame[0], frame[1])

    def sound():
        avi.sound(SOUND, frame[1])

    return {"driver": measure(picture), "avi": measure(write), "avi sound": measure(sound)}


def measure(function):
    function()
    cycles = heap = 0
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        start = ticks_cpu()
        function()
        cycles += ticks_diff(ticks_cpu(), start)
        heap += gc.mem_alloc() - before
        gc.enable()
    return cycles // ROUNDS, heap // ROUNDS


def record():
    """Take pictures of the camera on UART 3 for SECONDS and return the figures."""
    clock, inputs = platform.Clock(), platform.Inputs()
    gc.collect()
    heap = gc.mem_alloc()
    settings = {"kind": "vc0706", "source": UART, "indicator": PIN, "width": SIZE[0], "height": SIZE[1], "fps": FPS}
    settings["picture_kb"] = 6
    log = []
    camera = platform.camera(settings, platform.Pin(PIN), clock.now_ms, log.append, inputs)
    gc.collect()
    heap = gc.mem_alloc() - heap
    camera.open()
    times = []
    sizes = 0
    end = clock.now_ms() + 1000 * SECONDS  # noqa: F821 - set by bench_camera.py
    while clock.now_ms() < end:
        frame = camera.frame()
        if frame is None:
            inputs.wait(20)
        else:
            times.append(frame[1])
            sizes += len(frame[0])
    camera.close()
    figures = {"ms": times, "bytes": sizes, "damaged": camera.damaged, "log": log, "heap": heap}
    figures["fps"] = FPS
    figures["board"] = platform.board_counters()
    return figures


print(json.dumps(record() if LINE else count_costs()))  # noqa: F821
machine.deepsleep()
