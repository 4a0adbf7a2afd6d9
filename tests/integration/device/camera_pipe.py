"""Run the driver of a serial camera on CPython or MicroPython.

Usage: python|micropython camera_pipe.py CAMERA.json

Prints one line of JSON per picture (`ms`, `bytes`, `sum` of the bytes, `longest_us` of all calls so far, without the
time in which the process was ready to run but other processes had the processors) and per change of `fault`. If the
configuration has the key `film`, the pictures are also written to that file as AVI. A byte on standard input closes and
reopens the camera. At the end of the input, the program prints the heap use and exits.
"""

import gc
import json
import select
import sys
import time

FOLDER = __file__.rsplit("/", 1)[0]
for path in ("/../../../device", "/../../../protocol", "/../../../protocol/generated"):
    sys.path.insert(0, FOLDER + path)

from agent.recording.avi import AviMuxer  # noqa: E402
from hal.posix import platform, serial_line  # noqa: E402


def report(**values):
    print(json.dumps(values))
    if hasattr(sys.stdout, "flush"):
        sys.stdout.flush()


def ticks_us():
    return time.ticks_us() if hasattr(time, "ticks_us") else time.monotonic_ns() // 1000


class RunTime:
    """Measures time without the delay by the scheduler of Linux."""

    def __init__(self):
        self._file = serial_line.open_unbuffered("/proc/thread-self/schedstat")
        self._buf = bytearray(96)

    def now_us(self):
        self._file.seek(0)
        n = self._file.readinto(self._buf)
        delay_ns = int(bytes(self._buf[:n]).split()[1])  # time on a processor, delay, slices
        return ticks_us() - delay_ns // 1000


class AviRecorder:
    """Writes the pictures to an AVI file."""

    def __init__(self, path, camera):
        self._file = serial_line.open_unbuffered(path, "wb")
        self._avi = AviMuxer(camera.width, camera.height, camera.fps, False)
        self._avi.begin(self._write)
        self._begin_ms = None

    def _write(self, time_ms, *parts):
        for part in parts:
            self._file.write(part)

    def add(self, jpeg, time_ms):
        if self._begin_ms is None:
            self._begin_ms = time_ms
        self._avi.picture(jpeg, time_ms - self._begin_ms)


def main():
    clock, inputs = platform.Clock(), platform.Inputs()
    with open(sys.argv[1]) as f:
        config = json.load(f)
    camera = platform.camera(
        config, platform.Pin(config["indicator"]), clock.now_ms, lambda text: report(log=text), inputs
    )
    stdin = serial_line.open_unbuffered("/dev/stdin")
    poll = select.poll()
    poll.register(stdin, select.POLLIN)
    stdin_buf = bytearray(1)
    camera.open()
    recorder = AviRecorder(config["film"], camera) if "film" in config else None
    fault, longest_us = "", 0
    run_time = RunTime()
    while True:
        if poll.poll(0):
            if not stdin.readinto(stdin_buf):
                break
            camera.close()
            report(closed=True)
            camera.open()
        begin_us = run_time.now_us()
        picture = camera.frame()
        longest_us = max(longest_us, run_time.now_us() - begin_us)
        if camera.fault != fault:
            fault = camera.fault
            report(fault=fault)
        if picture is None:
            inputs.wait(platform.IDLE_MS)
            continue
        jpeg, time_ms = picture[0], picture[1]
        if recorder is not None:
            recorder.add(jpeg, time_ms)
        report(ms=time_ms, bytes=len(jpeg), sum=sum(jpeg), longest_us=longest_us)
    camera.close()
    gc.collect()
    report(damaged=camera.damaged, heap=gc.mem_alloc() if hasattr(gc, "mem_alloc") else None)


main()
