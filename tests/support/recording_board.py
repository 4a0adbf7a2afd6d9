"""The recording parts of a Linux board, connected as in device/app, for a test and a benchmark.

The camera plays the demo video at 15 frames per second: in real time through OpenCV's thread, or on a simulated clock.
"""

import time
from pathlib import Path

import cv2
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

FPS = 15
POSITION = (460500001, 145000000)
CONFIG = {"quota_kb": 262144, "lock_kb": 196608, "keep_h": 24, "sound": "event", "stamp": True}
CONFIG.update(pre_s=5, post_s=4, segment_s=3)
_START_UNIX_MS = 1_790_000_000_000
_SAMPLES_PER_MS = 8
_FLUSH_MS = 60_000


class RealParts:
    """Camera, microphone and clock of a board in real time.

    Args:
        folder: Folder of the indicators.
        mic: Path of a microphone.
    """

    def __init__(self, folder: Path, mic: str) -> None:
        self.clock, self.inputs, self.log = Clock(), platform.Inputs(), list[str]()
        settings = {
            "source": str(DEMO_VIDEO),
            "indicator": str(folder / "led"),
            "width": 640,
            "height": 480,
            "fps": FPS,
        }
        self.camera = platform.camera(
            settings, platform.Pin(settings["indicator"]), self.clock.now_ms, self.log.append, self.inputs
        )
        self.microphone = Microphone(mic, platform.Pin(str(folder / "ear")), self.inputs, self.log.append)

    def unix(self, at_ms: int) -> int:
        return at_ms + round(time.time() * 1000) - self.clock.now_ms()

    def wait(self, ms: int, files) -> None:
        self.inputs.wait(ms)


class SimulatedParts:
    """Camera, microphone and clock of a board on simulated time, and storage that is never late.

    Args:
        loud_s: The microphone gives sound for this time after it was opened first, then silence.
    """

    def __init__(self, loud_s: float) -> None:
        self.clock = SimulatedClock()
        self.camera = FilmCamera(self.clock, 320, 240)
        self.microphone = SimulatedMicrophone(self.clock, loud_s)

    def unix(self, at_ms: int) -> int:
        return _START_UNIX_MS + at_ms

    def wait(self, ms: int, files) -> None:
        files.flush(_FLUSH_MS)
        self.clock.advance(ms)


class SimulatedClock:
    """Milliseconds that pass when `advance` is called."""

    def __init__(self) -> None:
        self._now_ms = 1

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        self._now_ms += ms


class FilmCamera:
    """A camera of the HAL that plays the demo video in a loop on a simulated clock, each frame of the file once."""

    fault = ""
    damaged = dropped = 0
    fps = FPS

    def __init__(self, clock: SimulatedClock, width: int, height: int) -> None:
        self._clock, self.width, self.height = clock, width, height
        self._frames = 0

    def open(self) -> None:
        self._film = self._decode()
        self._opened_ms = self._clock.now_ms()

    def _decode(self):
        while True:
            capture = cv2.VideoCapture(str(DEMO_VIDEO))
            while (frame := capture.read())[0]:
                yield cv2.resize(frame[1], (self.width, self.height))
            capture.release()

    def frame(self):
        at_ms = self._opened_ms + self._frames * 1000 // FPS
        if at_ms > self._clock.now_ms():
            return None
        self._frames += 1
        return next(self._film), at_ms, _START_UNIX_MS + at_ms

    def close(self) -> None:
        self._film.close()


class SimulatedMicrophone:
    """A microphone of the HAL that gives units of 10 ms on a simulated clock."""

    def __init__(self, clock: SimulatedClock, loud_s: float) -> None:
        self._clock, self._loud_units = clock, round(100 * loud_s)
        self.buf = bytearray(20 * _SAMPLES_PER_MS)
        self._units = 0

    def open(self) -> bool:
        self._due_ms = self._clock.now_ms() + 10
        return True

    def read(self) -> int:
        if self._clock.now_ms() < self._due_ms:
            return 0
        self._due_ms += 10
        self._units += 1
        loud = self._units <= self._loud_units
        self.buf[:] = b"\x40\x1f\xc0\xe0" * (len(self.buf) // 4) if loud else bytes(len(self.buf))  # +8000, -8000
        return len(self.buf)

    def close(self) -> None:
        pass


class Board:
    """A board that records.

    Args:
        folder: Folder for state and clips.
        evidence: The site's public evidence key, 33 bytes.
        parts: RealParts or SimulatedParts.
        boot: Number of the boot.

    Attributes:
        slowest_ms: Duration of the longest round of its loop.
    """

    def __init__(self, folder: Path, evidence: bytes, parts: RealParts | SimulatedParts, boot: int = 1) -> None:
        self._parts, self.clock, self.camera, self.unix = parts, parts.clock, parts.camera, parts.unix
        self.slowest_ms = 0.0
        store = Store(str(folder / "state"))
        self.signer, self.files = Signer(store), platform.clip_storage(str(folder / "clips"))
        self.store = ClipStore(
            self.files, store, self.signer, CONFIG, "linux-1", boot, self.unix, lambda pct: None, lambda values: None
        )
        self.container = h264.H264Muxer(self.camera.width, self.camera.height, FPS)
        self.ring_recorder = RingRecorder(
            self.store,
            h264.StampedCamera(self.camera, "linux-1", lambda at_ms: (self.unix(at_ms), *POSITION)),
            self.container,
            h264.encode_jpeg,
            evidence,
            CONFIG,
            self.unix,
            lambda: clip.CLOCK_GPS,
            MicrophoneMultiplexer(parts.microphone).make_channel(),
        )
        self.recorder = ClipRecorder(self.store, self.ring_recorder, CONFIG, self.unix)
        run_to_completion(self.ring_recorder.load())

    def run(self, seconds: float) -> None:
        """Run the loop for a time of the board's clock."""
        until = self.clock.now_ms() + seconds * 1000
        while self.clock.now_ms() < until:
            begin = time.perf_counter()
            self.recorder.serve(self.clock.now_ms())
            self.store.open_clips.step()
            self.slowest_ms = max(self.slowest_ms, 1000 * (time.perf_counter() - begin))
            self._parts.wait(platform.IDLE_MS, self.files)
