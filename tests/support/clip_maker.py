"""Genuine clips of a device: the agent's recorder records build/media/bikes.mp4.

Time is virtual and storage is in memory. Pictures, sound, cipher, manifests, chain and signatures are real.
"""

import io
import math
import sys
from array import array
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
for subfolder in ("tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / subfolder))

from agent.gps.fix import HAS_POSITION, Fix  # noqa: E402
from agent.recording.avi import AviMuxer  # noqa: E402
from agent.recording.clip_recorder import ClipRecorder  # noqa: E402
from agent.recording.clip_store import ClipStore  # noqa: E402
from agent.recording.ring_recorder import RingRecorder  # noqa: E402
from agent.recording.signer import Signer  # noqa: E402
from compat.steps import run_to_completion  # noqa: E402
from memory_storage import MemoryFiles, MemoryStore  # noqa: E402
from patrolink.evidence import evidence_key  # noqa: E402
from patrolink_protocol import clip  # noqa: E402

from tests.support.paths import DEMO_VIDEO  # noqa: E402

SIZE = 320, 136  # of the pictures; a smaller size is coded faster
EPOCH_MS = 1_795_000_000_000
FPS = 5
CONFIG = {"quota_kb": 65536, "lock_kb": 49152, "keep_h": 24, "pre_s": 4, "post_s": 4, "segment_s": 2, "stamp": False}


@cache
def pictures() -> list[tuple[Any, bytes]]:
    """Return the pictures of the demo video at FPS: (BGR array, JPEG file) of each."""
    out = []
    with av.open(str(DEMO_VIDEO)) as container:
        due = 0.0
        for frame in container.decode(video=0):
            if frame.time >= due:
                due += 1 / FPS
                rgb = frame.to_ndarray(format="rgb24", width=SIZE[0], height=SIZE[1])
                jpeg = io.BytesIO()
                Image.fromarray(rgb).save(jpeg, "JPEG", quality=80)
                out.append((np.ascontiguousarray(rgb[:, :, ::-1]), jpeg.getvalue()))
    return out


class LoopCamera:
    """A camera that plays the demo video in a loop.

    Attributes:
        times_ms: Monotonic time of each picture.
    """

    width, height, fps, fault, dropped, damaged = *SIZE, FPS, "", 0, 0

    def __init__(self, device: "Device", arrays: bool) -> None:
        self._device, self._arrays, self.times_ms = device, arrays, list[int]()
        self._due = 0

    def open(self) -> None:
        self._due = self._device.now

    def close(self) -> None:
        pass

    def frame(self) -> tuple[Any, int, None] | None:
        if self._device.now < self._due:
            return None
        # A real camera does not keep its frame rate exactly.
        self._due += 1000 // FPS + (len(self.times_ms) % 3 - 1) * 10
        array, jpeg = pictures()[len(self.times_ms) % len(pictures())]
        self.times_ms.append(self._device.now)
        return array if self._arrays else memoryview(jpeg), self._device.now, None


class ToneMicrophone:
    """A microphone that delivers a tone of 440 Hz, in units of 10 ms."""

    def __init__(self, device: "Device") -> None:
        self._device = device
        self._tone = array("h", (round(8000 * math.sin(2 * math.pi * 440 * i / 8000)) for i in range(8000)))
        self.buf = bytearray(160)

    def open(self) -> bool:
        self._read_ms = self._device.now
        return True

    def close(self) -> None:
        pass

    def read(self) -> int:
        if self._read_ms + 10 > self._device.now:
            return 0
        at = self._read_ms // 10 % 100 * 80
        self.buf[:] = self._tone[at : at + 80].tobytes()
        self._read_ms += 10
        return len(self.buf)


@dataclass
class Device:
    """One device that records.

    Attributes:
        pem: File of the site's evidence key. It is created if it does not exist.
        now: Monotonic ms of this boot.
        shift_ms: Error of its unix clock.
        quota_kb: Size of its storage.
    """

    name: str
    pem: Path
    codec: int = clip.MJPEG_AVI
    now: int = 0
    shift_ms: int = 0
    boots: int = 0
    quota_kb: int = CONFIG["quota_kb"]
    files: Any = field(default_factory=MemoryFiles)
    store: Any = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.evidence = evidence_key.load(self.pem) if self.pem.exists() else evidence_key.create(self.pem)
        self._previous_boots_ms = 0
        self.boot()

    def boot(self) -> None:
        """Power the device on, for the first time or after a power cut."""
        self._previous_boots_ms, self.now = self._previous_boots_ms + self.now, 0
        self.boots += 1
        signer = Signer(self.store)
        config = {**CONFIG, "quota_kb": self.quota_kb}
        self.clip_store = ClipStore(
            self.files,
            self.store,
            signer,
            config,
            self.name,
            self.boots,
            self.unix,
            lambda pct: None,
            lambda values: None,
        )
        h264 = self.codec == clip.H264_MP4
        self.camera = LoopCamera(self, h264)
        container = _h264() if h264 else AviMuxer(*SIZE, FPS, True)
        jpeg = _jpeg if h264 else bytes
        self.ring_recorder = RingRecorder(
            self.clip_store,
            self.camera,
            container,
            jpeg,
            self.evidence.public,
            {**config, "sound": "event"},
            self.unix,
            lambda: clip.CLOCK_GPS,
            ToneMicrophone(self),
        )
        self.recorder = ClipRecorder(self.clip_store, self.ring_recorder, config, self.unix)
        run_to_completion(self.ring_recorder.load())
        self.signer = signer.public.hex()

    def unix(self, now: int) -> int:
        return EPOCH_MS + self._previous_boots_ms + now + self.shift_ms

    def run(self, seconds: float) -> None:
        """Record while walking north-east at 1.4 m/s."""
        for _ in range(round(seconds * 100)):
            self.now += 10
            self.recorder.serve(self.now)
            self.clip_store.open_clips.step()
            if self.now % 1000 == 0:
                self.ring_recorder.on_fix(self._fix(), self.now)

    def _fix(self) -> Fix:
        fix = Fix()
        unix_ms, walk_s = self.unix(self.now), (self._previous_boots_ms + self.now) // 1000
        fix.day, fix.ms = unix_ms // 86_400_000, unix_ms % 86_400_000
        fix.mode, fix.flags = 3, HAS_POSITION
        fix.lat_e7 = 460_500_000 + round(walk_s * 89 + 400 * math.sin(walk_s / 4))
        fix.lon_e7 = 145_000_000 + walk_s * 128
        fix.alt_mm, fix.speed_mms, fix.course_cd, fix.hacc_mm = 298_000, 1400, 4500, 3200
        return fix

    def event(self, trigger: str, event_id: int, who: str = "") -> int:
        """Trigger an event, record until its clip is complete, and return the number of the clip."""
        number: int = self.recorder.trigger(clip.TRIGGERS.index(trigger), event_id, who, self.now)
        self.run(1.5)
        if trigger == "sos":
            self.clip_store.open_clips.log_access("live_view_start", "duty", self.now, "id", 5)
        self.run(6)
        return number

    def copy_state(self, state: Path) -> None:
        """Copy the storage into the state folder of a device that has not been powered on yet."""
        (state / "clips").mkdir(parents=True)
        for name, data in self.files.data.items():
            (state / "clips" / name).write_bytes(data)
        for name, data in self.store.records.items():
            (state / name).write_bytes(data)

    def write(self, clips: Path) -> Path:
        """Write the clips in the layout of the hub, with their signers, and return the device's folder."""
        files = self.files.data
        manifests = sorted(name for name in files if name.endswith(".plm"))
        for name in manifests:
            folder = clips / self.name / name[:6]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name])
            for segment in files:
                if segment.endswith(".pls") and f'"{segment[:13]}","bytes"'.encode() in bytes(files[name]):
                    (folder / segment).write_bytes(files[segment])
        (clips / "signers.toml").write_text(f'[signers]\n"{self.name}" = ["{self.signer}"]\n')
        return clips / self.name


def _h264() -> Any:
    from hal.posix.h264 import H264Muxer

    return H264Muxer(*SIZE, FPS)


def _jpeg(picture: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture[:, :, ::-1]).save(out, "JPEG", quality=80)
    return out.getvalue()


def make(clips: Path, name: str = "linux-1", codec: int = clip.MJPEG_AVI) -> Device:
    """Record four clips with a new device, and write them to `clips`.

    Clip 1 is from the button, 2 from an SOS, 3 is a snapshot, 4 is from a dispatcher. The site's key is written next to
    `clips` as evidence.pem.
    """
    device = Device(name, clips.parent / "evidence.pem", codec)
    device.run(7)
    device.event("button", 11)
    device.run(5)
    device.event("sos", 12)
    device.run(5)
    device.recorder.snapshot("duty", device.now)
    device.run(5)
    device.event("dispatcher", 13, "duty")
    device.run(2)
    device.write(clips)
    return device
