"""Measure the heap of a recorder on MicroPython. bench_clips.py runs it. Prints one JSON object.

micropython -X heapsize=... clips_driver.py FOLDER PICTURE_BYTES SECONDS
"""

import gc
import json
import sys

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for path in ("/../../device", "/../../protocol", "/../../protocol/generated", "/../unit"):
    sys.path.insert(0, FOLDER + path)

import time

from agent.tracking.counter import Counter
from hal.clip_storage import ClipStorage
from hal.common import Store


class FakeCamera:
    """A camera that returns the same picture five times a second, as a view of its buffer like vc0706."""

    width, height, fps = 320, 240, 5
    fault = ""
    dropped = damaged = 0

    def __init__(self, size):
        self._picture = memoryview(bytearray(b"\xff\xd8" + bytes(size - 4) + b"\xff\xd9"))
        self.now = 0
        self._due = 0

    def open(self):
        pass

    def close(self):
        pass

    def frame(self):
        if self.now < self._due:
            return None
        self._due += 200
        return self._picture, self.now, None


def used_bytes():
    gc.collect()
    return gc.mem_alloc()


def unix(now):
    return 1795000000000 + now


def source():
    return 1


def ignore(value):
    pass


def measure(folder, size, seconds):
    store = Store(folder)
    boot = Counter(store).boot
    camera = FakeCamera(size)
    picture = used_bytes()
    from agent.recording.avi import AviMuxer
    from agent.recording.clip_recorder import ClipRecorder
    from agent.recording.clip_store import ClipStore
    from agent.recording.ring_recorder import RingRecorder
    from agent.recording.signer import Signer
    from compat import crypto
    from compat.steps import run_to_completion

    code = used_bytes() - picture
    config = {"quota_kb": 65536, "lock_kb": 49152, "keep_h": 24, "pre_s": 30, "post_s": 30, "segment_s": 5}
    config.update({"sound": "never", "stamp": False})
    evidence = run_to_completion(crypto.derive_public_key(crypto.generate_private_key()))

    base = used_bytes()
    files = ClipStorage(folder + "/clips")
    clip_store = ClipStore(files, store, Signer(store), config, "unix-1", boot, unix, ignore, ignore)
    container = AviMuxer(320, 240, 5, False)
    ring_recorder = RingRecorder(clip_store, camera, container, bytes, evidence, config, unix, source)
    recorder = ClipRecorder(clip_store, ring_recorder, config, unix)
    run_to_completion(ring_recorder.load())
    objects_max = 0
    gc.collect()
    start = time.ticks_us()
    slowest = 0
    for now in range(0, seconds * 1000, 50):
        camera.now = now
        if now == 60000:
            recorder.trigger(1, 1, "", now)
        before = time.ticks_us()
        recorder.serve(now)
        clip_store.open_clips.step()
        slowest = max(slowest, time.ticks_diff(time.ticks_us(), before))
        if now % 1000 == 0:
            objects_max = max(objects_max, used_bytes() - base)
    us = time.ticks_diff(time.ticks_us(), start)
    for now in range(seconds * 1000, seconds * 1000 + 4000, 50):  # no segment starts while allocations are counted
        camera.now = now
        if now % 5000 == 2000:
            gc.collect()
            gc.disable()
            allocated_before = gc.mem_alloc()
        recorder.serve(now)
        clip_store.open_clips.step()
    allocated = (gc.mem_alloc() - allocated_before) // 10
    gc.enable()
    return {
        "code": code,
        "objects_most": objects_max,
        "picture": size,
        "allocated_a_picture": allocated,
        "us_a_second": us // seconds,
        "slowest_us": slowest,
        "lost": ring_recorder.loss.total,
        "errors": ring_recorder.errors,
    }


print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
