"""Times one GPS parser on this interpreter; bench_gps.py starts it. argv: sentences, device room, "ours" or a file."""

import gc
import json
import sys
import time

data = open(sys.argv[1], "rb").read()


def timed(work):
    best = None
    for _ in range(5):
        gc.collect()
        t = time.time_ns()
        work()
        t = time.time_ns() - t
        best = t if best is None else min(best, t)
    return best


if sys.argv[3] == "ours":
    for room in ("", "/../protocol"):
        sys.path.insert(0, sys.argv[2] + room)
    from agent.gps.sentences import GpsReceiver

    receiver = GpsReceiver(lambda fix: None)
    data = bytearray(data)
    receiver.feed(data, len(data), 0)
    n = receiver.sentences
    best = timed(lambda: receiver.feed(data, len(data), 0))
    allocated = None
    if hasattr(gc, "mem_alloc"):
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        receiver.feed(data, len(data), 0)
        allocated = gc.mem_alloc() - before
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

    best = timed(work)
    print(json.dumps({"sentences": text.count("\n"), "ns": best, "allocated": None}))
