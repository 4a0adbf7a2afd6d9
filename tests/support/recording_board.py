"""The recording parts of a Linux board, connected as in device/app, for a test and a benchmark.

The camera plays the demo video at 640x480, 15 frames per second.
"""

import time
from pathlib import Path

from agent.audio.microphone import MicrophoneMultiplexer
from agent.recording.clip_recorder import ClipRecorder
from agent.recording.clip_store import ClipStore
from agent.recording.ring_recorder import RingRecorder
from agent.recording.signer import Signer
from compat.steps import run_to_completion
from hal.common import Clock, Store
from hal.posix import h264, platform
from hal.posix.audio import Microphone
from patrolink_protocol import clip

from tests.support.paths import DEMO_VIDEO

WIDTH, HEIGHT, FPS = 640, 480, 15
POSITION = (460500001, 145000000)
CONFIG = {"quota_kb": 262144, "lock_kb": 196608, "keep_h": 24, "sound": "event", "stamp": True}
CONFIG.update(pre_s=5, post_s=4, segment_s=3)


class Board:
    """A board that records.

    Args:
        folder: Folder for state, clips and indicators.
        evidence: The site's public evidence key, 33 bytes.
        mic: Path of a microphone.
        boot: Number of the boot.

    Attributes:
        slowest_ms: Duration of the longest round of its loop.
    """

    def __init__(self, folder: Path, evidence: bytes, mic: str, boot: int = 1) -> None:
        self.clock, self.inputs, self.log = Clock(), platform.Inputs(), list[str]()
        self.slowest_ms = 0.0
        settings = {
            "source": str(DEMO_VIDEO),
            "indicator": str(folder / "led"),
            "width": WIDTH,
            "height": HEIGHT,
            "fps": FPS,
        }
        store = Store(str(folder / "state"))
        self.signer, self.files = Signer(store), platform.clip_storage(str(folder / "clips"))
        self.store = ClipStore(
            self.files, store, self.signer, CONFIG, "linux-1", boot, self.unix, lambda pct: None, lambda values: None
        )
        self.camera = platform.camera(settings, self.clock.now_ms, self.log.append, self.inputs)
        microphone = Microphone(mic, platform.Pin(str(folder / "ear")), self.inputs, self.log.append)
        self.container = h264.H264Muxer(WIDTH, HEIGHT, FPS)
        self.ring_recorder = RingRecorder(
            self.store,
            h264.StampedCamera(self.camera, "linux-1", lambda at_ms: (self.unix(at_ms), *POSITION)),
            self.container,
            h264.encode_jpeg,
            evidence,
            CONFIG,
            self.unix,
            lambda: clip.CLOCK_GPS,
            MicrophoneMultiplexer(microphone).make_channel(),
        )
        self.recorder = ClipRecorder(self.store, self.ring_recorder, CONFIG, self.unix)
        run_to_completion(self.ring_recorder.load())

    def unix(self, at_ms: int) -> int:
        return at_ms + round(time.time() * 1000) - self.clock.now_ms()

    def run(self, seconds: float) -> None:
        """Run the loop in real time."""
        until = self.clock.now_ms() + seconds * 1000
        while self.clock.now_ms() < until:
            begin = time.perf_counter()
            self.recorder.serve(self.clock.now_ms())
            self.slowest_ms = max(self.slowest_ms, 1000 * (time.perf_counter() - begin))
            self.inputs.wait(platform.IDLE_MS)
