"""Measure the time of one GPS parser on this interpreter. bench_gps.py starts it.

Arguments: file of sentences, folder of the device sources, `agent` or the file of micropyGPS.
"""

import gc
import json
import sys
import time

data = open(sys.argv[1], "rb").read()


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
    data = bytearray(data)
    receiver.feed(data, len(data), 0)
    n = receiver.sentences
    best = shortest_time(lambda: receiver.feed(data, len(data), 0))
    allocated = None
    if hasattr(gc, "mem_alloc"):
        gc.collect()
        gc.disable()
        start = gc.mem_alloc()
        receiver.feed(data, len(data), 0)
        allocated = gc.mem_alloc() - start
    print(json.dumps({"sentences": n, "ns": best, "allocated": allocated}))
else:
    sys.path.insert(0, sys.argv[3].rsplit("/", 1)[0])
    from micropyGPS import MicropyGPS

    text = data.decode()

    def work():
        gps = MicropyGPS()
        for c in text:
            try:
                gps.update(c)
            except IndexError:
                gps.sentence_active = False

    best = shortest_time(work)
    print(json.dumps({"sentences": text.count("\n"), "ns": best, "allocated": None}))
