"""A serial camera's driver on either runtime, for test_serial_camera.py and its bench.

python|micropython camera_pipe.py CAMERA.json
    says a line of JSON for each picture (ms, bytes, its sum, the longest call so far in us) and each change of `fault`;
    "film" in it names a file that gets them as AVI;
    an end of line on standard input closes and opens the camera, its end ends the program with the heap that was used
"""

import gc
import json
import select
import sys
import time

HERE = __file__.rsplit("/", 1)[0]
for room in ("/../../../device", "/../../../protocol", "/../../../protocol/generated"):
    sys.path.insert(0, HERE + room)

from agent.recording.avi import AviMuxer  # noqa: E402
from hal.posix import platform, serial_line  # noqa: E402


def told(**what):
    print(json.dumps(what))
    if hasattr(sys.stdout, "flush"):
        sys.stdout.flush()


def ticks_us():
    return time.ticks_us() if hasattr(time, "ticks_us") else time.monotonic_ns() // 1000


class RingRecorder:
    """An AVI of the pictures."""

    def __init__(self, path, camera):
        self._file = serial_line.open_unbuffered(path, "wb")
        self._avi = AviMuxer(camera.width, camera.height, camera.fps, False)
        self._avi.begin(self._write)
        self._begin_ms = None

    def _write(self, time_ms, *parts):
        for part in parts:
            self._file.write(part)

    def take(self, got):
        if self._begin_ms is None:
            self._begin_ms = got[1]
        self._avi.picture(got[0], got[1] - self._begin_ms)


def main():
    clock, inputs = platform.Clock(), platform.Inputs()
    with open(sys.argv[1]) as f:
        given = json.load(f)
    camera = platform.camera(given, clock.now_ms, lambda text: told(log=text), inputs)
    keys = serial_line.open_unbuffered("/dev/stdin")
    poll = select.poll()
    poll.register(keys, select.POLLIN)
    key = bytearray(1)
    camera.open()
    film = RingRecorder(given["film"], camera) if "film" in given else None
    fault, longest = "", 0
    while True:
        if poll.poll(0):
            if not keys.readinto(key):
                break
            camera.close()
            told(closed=True)
            camera.open()
        begin = ticks_us()
        got = camera.frame()
        longest = max(longest, ticks_us() - begin)
        if camera.fault != fault:
            fault = camera.fault
            told(fault=fault)
        if got is None:
            inputs.wait(platform.IDLE_MS)
            continue
        if film is not None:
            film.take(got)
        told(ms=got[1], bytes=len(got[0]), sum=sum(got[0]), longest_us=longest)
    camera.close()
    gc.collect()
    told(damaged=camera.damaged, heap=gc.mem_alloc() if hasattr(gc, "mem_alloc") else None)


main()
