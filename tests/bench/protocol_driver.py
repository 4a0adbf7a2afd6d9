"""Measure the time of the device's encoder on this interpreter. bench_protocol.py starts it.

Arguments: folder of the protocol, JSON file of rows.
"""

import gc
import json
import sys
import time

for folder in ("", "/generated"):
    sys.path.insert(0, sys.argv[1] + folder)


def heap():
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


start = heap()
import patrolink_messages as m
from patrolink_protocol import frame, track_encoder

positions = heap() - start
import patrolink_protocol.codec  # noqa: F401

scalar_messages = heap() - start

with open(sys.argv[2]) as f:
    rows = json.load(f)
n = len(rows)
channel = frame.Channel(bytes(32), b"bench")
buf = bytearray(m.MAX_FRAME)
results = {}
for rice in (True, False):
    encoder = track_encoder.TrackEncoder(n, 6, rice)
    best = None
    allocated = 0
    for i in range(30):
        if hasattr(gc, "mem_alloc"):
            gc.collect()
            gc.disable()
            allocated = gc.mem_alloc()
        t = time.time_ns()
        for row in rows:
            encoder.add(row[0], row[1], row[2])
        end = encoder.encode_into(buf, frame.HEADER_BYTES, n)
        encoder.drop(n)
        t = time.time_ns() - t
        if hasattr(gc, "mem_alloc"):
            # Reading the clock allocates two large integers, which do not belong to the encoder.
            allocated = gc.mem_alloc() - allocated
            clock_start = gc.mem_alloc()
            t0 = time.time_ns()
            t0 = time.time_ns() - t0
            allocated -= gc.mem_alloc() - clock_start
            gc.enable()
        best = t if best is None else min(best, t)
        channel.seal_into(buf, m.POSITION_BATCH, i, end)
    results["rice" if rice else "fixed"] = {"ns": best // n, "allocated": allocated}
print(
    json.dumps(
        {"runtime": sys.implementation.name, "positions": positions, "every": scalar_messages, "encode": results}
    )
)
