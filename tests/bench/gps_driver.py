"""Measure the time of one GPS parser on this interpreter. bench_gps.py starts it.

Arguments: file of sentences, folder of the device sources, `agent` or the file of micropyGPS.
"""

import gc
import json
import sys
import time

buf = bytearray(256)  # of a read of the UART


def pieces():
    """Yield the number of bytes in `buf` for each piece of the file."""
    with open(sys.argv[1], "rb") as f:
        n = f.readinto(buf)
        while n:
            yield n
            n = f.readinto(buf)


def shortest_time(work):
    best = None
    for _ in range(5):
        gc.collect()
        t = time.time_ns()
        work()
        t = time.time_ns() - t
        best = t if best is None else min(best, t)
    return best


if sys.argv[3] == "agent":
    for folder in ("", "/../protocol", "/../protocol/generated"):
        sys.path.insert(0, sys.argv[2] + folder)
    from agent.gps.sentences import GpsReceiver

    receiver = GpsReceiver(lambda fix: None)

    def work():
        for n in pieces():
            receiver.feed(buf, n, 0)

    work()
    n = receiver.sentences
    best = shortest_time(work)
    allocated = None
    if hasattr(gc, "mem_alloc"):
        allocated = 0
        gc.collect()
        gc.disable()
        for size in pieces():
            start = gc.mem_alloc()
            receiver.feed(buf, size, 0)
            allocated += gc.mem_alloc() - start
    print(json.dumps({"sentences": n, "ns": best, "allocated": allocated}))
else:
    sys.path.insert(0, sys.argv[3].rsplit("/", 1)[0])
    from micropyGPS import MicropyGPS

    lines = [0]

    def work():
        gps = MicropyGPS()
        lines[0] = 0
        for n in pieces():
            for byte in memoryview(buf)[:n]:
                lines[0] += byte == 10
                try:
                    gps.update(chr(byte))
                except IndexError:
                    gps.sentence_active = False

    best = shortest_time(work)
    print(json.dumps({"sentences": lines[0], "ns": best, "allocated": None}))
