"""Counts on the emulated board what a picture costs; bench_camera.py types its import into the board's console.

bench_camera.py puts LINE before this text. True: take pictures of the camera on UART 3 for SECONDS; False: count, with
a camera's answers from memory. Prints one line of JSON and powers the board off.
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


class Lamp:
    """An indicator that is well."""

    def set(self, level):
        pass

    def get(self):
        return True


class Wire:
    """A camera's answers, in memory: what the driver asks is answered by the next of them."""

    def __init__(self, jpeg):
        self._jpeg = jpeg
        self._say = b""
        self._view = memoryview(b"")
        self._answers = {c: bytes((0x76, 0, c, 0, 0)) for c in (0x11, 0x54, 0x31, 0x36, 0x32)}
        self._answers[0x34] = bytes((0x76, 0, 0x34, 0, 4, 0, 0, len(jpeg) >> 8, len(jpeg) & 255))
        self._pieces = {}
        for at in range(0, len(jpeg), 1024):
            self._pieces[at] = memoryview(self._answers[0x32] + jpeg[at : at + 1024] + self._answers[0x32])
        self._at = 0

    def set_baud(self, baud):
        pass

    def write(self, data):
        command = data[2]
        self._at = 0
        self._say = self._pieces[data[8] << 8 | data[9]] if command == 0x32 else self._answers[command]

    def readinto(self, buf):
        """64 bytes at most, as a loop that is in time finds them."""
        n = min(64, len(self._say) - self._at, len(buf))
        vc0706.move(self._say, self._at, buf, 0, n)
        self._at += n
        return n


def counted():
    """Return [instructions are 2.5 of these cycles, bytes allocated] of a picture, by part."""
    jpeg = b"\xff\xd8" + bytes([i * 7 & 127 for i in range(BYTES - 4)]) + b"\xff\xd9"
    now = [0]
    given = {"width": SIZE[0], "height": SIZE[1], "fps": FPS, "picture_kb": 6}
    camera = vc0706.Camera(Wire(jpeg), Lamp(), lambda: now[0], print, given)
    camera.open()

    def picture():
        while True:
            got = camera.frame()
            if got is not None:
                return got
            now[0] += 20

    def quiet(time_ms, head, data=None, pad=None):
        pass

    avi = AviMuxer(SIZE[0], SIZE[1], FPS, True)
    avi.begin(quiet)
    got = picture()

    def write():
        avi.picture(got[0], got[1])

    def sound():
        avi.sound(SOUND, got[1])

    return {"driver": measured(picture), "avi": measured(write), "avi sound": measured(sound)}


def measured(function):
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


def filmed():
    """Pictures and what became of them, over SECONDS of a camera on the line."""
    clock, inputs = platform.Clock(), platform.Inputs()
    gc.collect()
    heap = gc.mem_alloc()
    given = {"kind": "vc0706", "source": UART, "indicator": PIN, "width": SIZE[0], "height": SIZE[1], "fps": FPS}
    given["picture_kb"] = 6
    log = []
    camera = platform.camera(given, clock.now_ms, log.append, inputs)
    gc.collect()
    heap = gc.mem_alloc() - heap
    camera.open()
    times = []
    sizes = 0
    end = clock.now_ms() + 1000 * SECONDS  # noqa: F821 - put before this text
    while clock.now_ms() < end:
        got = camera.frame()
        if got is None:
            inputs.wait(20)
        else:
            times.append(got[1])
            sizes += len(got[0])
    camera.close()
    told = {"ms": times, "bytes": sizes, "damaged": camera.damaged, "log": log, "heap": heap}
    told["fps"] = FPS
    told["board"] = platform.board_counters()
    return told


print(json.dumps(filmed() if LINE else counted()))  # noqa: F821
machine.deepsleep()
