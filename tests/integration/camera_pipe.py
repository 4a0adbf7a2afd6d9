"""A serial camera's driver on either runtime, for test_serial_camera.py and its bench.

python|micropython camera_pipe.py '{"source": ..., "indicator": ..., ...}'
    says a line of JSON for each picture (ms, bytes, its sum, the longest call so far in us) and each change of `fault`;
    an end of line on standard input closes and opens the camera, its end ends the program with the heap that was used
"""

import gc
import json
import select
import sys
import time

HERE = __file__.rsplit("/", 1)[0]
for room in ("/../../device", "/../../protocol", "/../../protocol/generated"):
    sys.path.insert(0, HERE + room)

from hal import posix  # noqa: E402


def told(**what):
    print(json.dumps(what))
    if hasattr(sys.stdout, "flush"):
        sys.stdout.flush()


def ticks_us():
    return time.ticks_us() if hasattr(time, "ticks_us") else time.monotonic_ns() // 1000


def main():
    clock, inputs = posix.Clock(), posix.Inputs()
    camera = posix.camera(json.loads(sys.argv[1]), clock.now_ms, lambda text: told(log=text), inputs)
    keys = posix.open_unbuffered("/dev/stdin")
    poll = select.poll()
    poll.register(keys, select.POLLIN)
    key = bytearray(1)
    camera.open()
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
            inputs.wait(posix.IDLE_MS)
            continue
        told(ms=got[1], bytes=len(got[0]), sum=sum(got[0]), longest_us=longest)
    camera.close()
    gc.collect()
    told(dropped=camera.dropped, heap=gc.mem_alloc() if hasattr(gc, "mem_alloc") else None)


main()
