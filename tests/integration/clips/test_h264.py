"""H.264 of a Linux board from a real video, checked with PyAV and ffprobe: complete, truncated, invalid input."""

import io
import json
import random
import shutil
import struct
import subprocess

import av
import pytest
from agent.recording.segment import SegmentKeys, SegmentWriter
from compat import steps
from patrolink.evidence import evidence_key, segment
from patrolink_protocol import clip

cv2 = pytest.importorskip("cv2", reason="no OpenCV; pip install opencv-python-headless")
import numpy as np  # noqa: E402
import test_clip_sound  # noqa: E402
from hal.posix import h264  # noqa: E402
from seeded_random import seeded  # noqa: E402

from tests.support.paths import DEMO_VIDEO  # noqa: E402

SIZE, FPS, SECONDS = (320, 240), 15, 5
SEED = 20261125
FRAGMENT_MS = 200
DELAY_MS = FRAGMENT_MS + 1000 // FPS + 4 * 128  # a picture is written after its sound; an AAC frame is 128 ms

pytestmark = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no video for the camera; run `make media`")


@pytest.fixture(scope="module")
def pictures():
    with av.open(str(DEMO_VIDEO)) as file:
        frames = [frame.to_ndarray(format="bgr24") for frame in file.decode(video=0)]
    return [cv2.resize(frame, SIZE) for frame in frames[: FPS * SECONDS]]


def tone(at_ms: int, hz: int = 500) -> bytes:
    """Return 10 ms of a tone."""
    t = np.arange(at_ms * 8, at_ms * 8 + 80) / 8000
    return (8000 * np.sin(2 * np.pi * hz * t)).astype("<i2").tobytes()


class RecordingSink:
    """A sink of a container that stores all records with their time."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []

    def __call__(self, time_ms: int, *parts: bytes) -> None:
        self.records.append((time_ms, b"".join(parts)))

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.records)


def mux(frames, sound=True, audible=lambda ms: True, size=SIZE, ms=SECONDS * 1000):
    """Mux (time, picture) pairs, with a tone at the times for which `audible` is true; return the sink."""
    muxer, sink, frames = h264.H264Muxer(*size, FPS, sound=sound), RecordingSink(), list(frames)
    muxer.begin(sink)
    for now in range(0, ms, 10):
        while frames and frames[0][0] <= now:
            muxer.picture(frames[0][1], frames.pop(0)[0])
        if sound and audible(now):
            muxer.sound(tone(now), now)
    muxer.end()
    return sink


@pytest.fixture(scope="module")
def video(pictures):
    """Return (sink, times) of a video with an uneven frame rate."""
    randrange = random.Random(SEED).randrange
    times = [i * 1000 // FPS + randrange(20) for i in range(len(pictures))]
    return mux(zip(times, pictures, strict=True)), times


def packets(data: bytes, kind: str) -> list:
    with av.open(io.BytesIO(data)) as file:
        return [packet for packet in file.demux(**{kind: 0}) if packet.pts is not None]


def ms(frame) -> int:
    """Return the presentation time of a frame or packet in ms."""
    return round(frame.pts * frame.time_base * 1000)


def decode(data: bytes) -> list[tuple[int, np.ndarray]]:
    """Return (ms, picture) of each frame that PyAV plays."""
    with av.open(io.BytesIO(data)) as file:
        return [(ms(frame), frame.to_ndarray(format="bgr24")) for frame in file.decode(video=0)]


def samples(data: bytes) -> tuple[float, np.ndarray]:
    """Return (start of the sound in seconds, all samples)."""
    with av.open(io.BytesIO(data)) as file:
        frames = list(file.decode(audio=0))
    return frames[0].time, np.concatenate([frame.to_ndarray()[0] for frame in frames])


def fragments(data: bytes) -> list[int]:
    """Return the end offsets of the header, of each fragment, and of the index."""
    ends, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        at += size
        if kind in (b"moov", b"mdat", b"mfra"):
            ends.append(at)
    assert at == len(data)
    return ends


def test_every_picture_keeps_its_time_and_content(video, pictures):
    sink, times = video
    played = decode(sink.data)
    assert [at for at, _ in played] == times
    for (at, picture), original in zip(played, pictures, strict=True):
        assert cv2.PSNR(picture, original) > 28, at
    keys = [ms(packet) for packet in packets(sink.data, "video") if packet.is_keyframe]
    assert keys[0] == times[0] and max(b - a for a, b in zip(keys, keys[1:], strict=False)) <= 1000 + 1000 // FPS + 20


def test_ffprobe_finds_both_tracks_complete(video, tmp_path):
    if not shutil.which("ffprobe"):
        pytest.skip("no ffprobe; apt-get install ffmpeg")
    sink, times = video
    path = tmp_path / "video.mp4"
    path.write_bytes(sink.data)
    options = ["-count_frames", "-show_entries", "stream=codec_name,profile,width,height,nb_read_frames,start_time"]
    command = ["ffprobe", "-v", "warning", *options, "-of", "json", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stderr == ""
    video, sound = json.loads(result.stdout)["streams"]
    assert (video["codec_name"], video["width"], video["height"]) == ("h264", *SIZE)
    assert int(video["nb_read_frames"]) == len(times) and sound["codec_name"] == "aac"


def test_data_is_written_in_complete_fragments_without_delay(video):
    sink, _ = video
    ends = fragments(sink.data)
    assert len(ends) - 1 >= SECONDS * 1000 // (FRAGMENT_MS + 1000 // FPS + 20)
    at = [time_ms for time_ms, _ in sink.records]
    assert at == sorted(at)
    written, out = 0, []
    for time_ms, data in sink.records:
        written += len(data)
        assert written in ends
        out.append((time_ms, written))
    delays = [
        next(time_ms for time_ms, written in out if written >= packet.pos + packet.size) - ms(packet)
        for packet in packets(sink.data, "video")
    ]
    assert max(delays) <= DELAY_MS, delays


class MemoryWriter(bytearray):
    """A hal writer in memory."""

    behind, fault = 0, ""

    def write(self, data) -> None:
        self.extend(data)

    def close(self) -> None:
        pass


def test_a_truncated_segment_plays_up_to_its_last_complete_record(video, tmp_path):
    sink, times = video
    evidence = evidence_key.create(tmp_path / "evidence.pem")
    writer, stored, keys = SegmentWriter(), MemoryWriter(), SegmentKeys(evidence.public)
    steps.run_to_completion(keys.load())
    step, key = keys.take()
    header = clip.SegmentHeader(clip.H264_MP4, 0, *SIZE, 1, step, 0, keys.recipient, keys.ephemeral)
    writer.begin(stored, header, key)
    length, ends = 0, {}  # end of each record in the segment -> bytes of the video before it
    for time_ms, data in sink.records:
        writer.media(time_ms, data)
        length += len(data)
        ends[writer.size] = length
    writer.end(SECONDS * 1000)
    all_packets = packets(sink.data, "video")
    randrange = random.Random(SEED).randrange
    media = b""
    for cut in sorted([*ends, *(randrange(min(ends), len(stored)) for _ in range(200))]):
        previous, media = media, segment.parse(bytes(stored[:cut]), evidence).media_file()
        length = max(length for end, length in ends.items() if end <= cut)
        assert len(media) == length, f"seed {SEED}, {cut} bytes"
        if media != previous:  # the same bytes play the same
            played = [at for at, _ in decode(media)]
            assert played == [ms(p) for p in all_packets if p.pos < length] == times[: len(played)], (
                f"seed {SEED}, {cut} bytes"
            )


def test_sound_and_picture_are_synchronous():
    """A flash and a bang at 2 s and at 4 s; between them the microphone delivers no samples for 1 s."""
    dark, light = np.zeros((*SIZE[::-1], 3), np.uint8), np.full((*SIZE[::-1], 3), 255, np.uint8)
    bang = lambda now: now // 100 in (20, 40)  # noqa: E731
    muxer, sink = h264.H264Muxer(*SIZE, FPS), RecordingSink()
    muxer.begin(sink)
    for now in range(0, 5000, 10):
        if now % 50 == 0:
            muxer.picture(light if bang(now) else dark, now)
        if not 2500 <= now < 3500:  # the microphone delivers no samples
            muxer.sound(tone(now) if bang(now) else bytes(160), now)
    muxer.end()
    flashes = [at for at, picture in decode(sink.data) if picture.mean() > 128]
    begin, pcm = samples(sink.data)
    loud = np.flatnonzero(np.abs(pcm) > 0.1) / 8000 + begin
    assert flashes[0] == 2000 and flashes[2] == 4000
    assert abs(loud[0] - 2.0) < 0.02, loud[0]
    assert abs(loud[loud > 3][0] - 4.0) < 0.02, loud[loud > 3][0]


def test_a_silent_or_bursting_microphone_delays_no_picture(pictures):
    times = [i * 1000 // FPS for i in range(len(pictures))]
    silent = mux(zip(times, pictures, strict=True), audible=lambda now: False)
    assert [at for at, _ in decode(silent.data)] == times and max(abs(samples(silent.data)[1])) < 0.01
    assert silent.records[0][0] <= DELAY_MS
    muxer, sink = h264.H264Muxer(*SIZE, FPS), RecordingSink()
    muxer.begin(sink)
    for i, picture in enumerate(pictures):
        muxer.picture(picture, times[i])
        for _ in range(100 if i % 30 == 0 else 0):  # one second of samples with the same time
            muxer.sound(tone(0), times[i])
    muxer.end()
    assert [at for at, _ in decode(sink.data)] == times
    begin, pcm = samples(sink.data)
    assert begin == 0 and len(pcm) / 8000 < SECONDS + 0.5


def test_there_is_no_audio_track_without_sound(pictures):
    sink = mux([(0, pictures[0]), (70, pictures[1])], sound=False)
    with av.open(io.BytesIO(sink.data)) as file:
        assert [stream.type for stream in file.streams] == ["video"]
    assert len(decode(sink.data)) == 2


@pytest.mark.parametrize("size", [(640, 480), (641, 479), (322, 182), (64, 64), (1280, 720)])
def test_pictures_of_any_size_are_scaled(pictures, size):
    randrange = random.Random(SEED).randrange
    frames = [cv2.resize(picture, (randrange(1, 900), randrange(1, 700))) for picture in pictures[:12]]
    frames += [pictures[0][::2, ::-3], np.ascontiguousarray(pictures[0][:1])]
    sink = mux([(i * 70, picture) for i, picture in enumerate(frames)], size=size, sound=False)
    played = decode(sink.data)
    assert len(played) == len(frames), f"seed {SEED}"
    assert {picture.shape for _, picture in played} == {(size[1] & ~1, size[0] & ~1, 3)}


def test_a_clock_that_jumps_loses_no_picture(pictures):
    muxer, sink = h264.H264Muxer(*SIZE, FPS), RecordingSink()
    muxer.begin(sink)
    for time_ms in (0, 100, 50, 50, 0, 1000, 999, 500_000, 500_067):
        muxer.picture(pictures[0], time_ms)
        muxer.sound(tone(0), time_ms)
    muxer.end()
    times = [at for at, _ in decode(sink.data)]
    assert times == [0, 100, 101, 102, 103, 1000, 1001, 500_000, 500_067]


def test_several_files_are_written_in_a_row_and_one_is_empty(pictures):
    muxer = h264.H264Muxer(*SIZE, FPS)
    sinks = [RecordingSink() for _ in range(4)]
    for n, sink in enumerate(sinks):
        muxer.begin(sink)
        for i in range(10 * n):
            muxer.picture(pictures[i], 70 * i)
        muxer.end()
    assert [len(decode(sink.data)) for sink in sinks[1:]] == [10, 20, 30]


def test_a_picture_is_encoded_as_jpeg(pictures):
    data = h264.encode_jpeg(pictures[0])
    assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert cv2.PSNR(decoded, pictures[0]) > 30 and len(h264.encode_jpeg(pictures[0], 30)) < len(data)


class StillCamera:
    """A camera that always returns the same picture."""

    fault, dropped = "", 3

    def __init__(self, picture) -> None:
        self.picture, self.now = picture, 0

    def frame(self):
        return self.picture.copy(), self.now, None


@pytest.mark.parametrize("width", [160, 320, 640, 1920])
def test_a_stamp_shows_device_time_and_position_and_changes_nothing_else(pictures, width):
    picture = cv2.resize(pictures[0], (width, width * 3 // 4))
    camera = StillCamera(picture)
    positions = {0: (0, None, None), 1000: (1795000000999, 460500001, -145000000), 1500: (1795000001000, 0, 0)}
    stamped = h264.StampedCamera(camera, "linux-1", positions.__getitem__)
    stamps = []
    for now in positions:
        camera.now = now
        stamp = stamped.frame()[0]
        assert stamp.shape == picture.shape
        changed = np.flatnonzero((stamp != picture).any(axis=(1, 2)))
        assert changed[0] > picture.shape[0] * 0.75 and stamp[changed[0] :].max() > 128
        stamps.append(stamp)
    assert not (stamps[0] == stamps[1]).all() and not (stamps[1] == stamps[2]).all()
    assert (stamped.dropped, stamped.fault) == (3, "")


def test_the_text_of_a_stamp_has_time_and_position():
    assert h264.stamp_text("linux-1", 0, None, None) == "linux-1  time unknown  position unknown"
    text = h264.stamp_text("linux-1", 1795000000999, 460500001, -145000000)
    assert text == "linux-1  2026-11-18 11:06:40 UTC  46.05000 -14.50000"


class FixedPictureMuxer(h264.H264Muxer):
    """Writes a fixed picture for every frame, because the pictures of the harness's camera are not arrays."""

    PICTURE = np.zeros((120, 160, 3), np.uint8)

    def picture(self, picture, time_ms):
        super().picture(self.PICTURE, time_ms)


class Mp4Harness(test_clip_sound.SharedMicrophoneHarness):
    """The harness of the unit test with an MP4 container."""

    def make_container(self):
        return FixedPictureMuxer(160, 120, self.fps)


@pytest.mark.parametrize("sound", ["event", "always"])
def test_no_sample_from_before_a_trigger_is_recorded(sound):
    config = {"sound": sound, "pre_s": 5, "post_s": 3, "segment_s": 2, "quota_kb": 32768, "lock_kb": 32768}
    loudest = samples_read = 0
    for seed in (14, 15):  # seed 14 delays the loop while push-to-talk uses the microphone
        harness = Mp4Harness(config, 200).boot().run(7)
        assert test_clip_sound.run_random_events(harness, seeded(seed))
        for name in sorted(harness.segment_files()):
            read = harness.read(name)
            if read.header.codec == clip.H264_MP4 and read.header.flags & clip.FLAG_SOUND:
                _, pcm = samples(b"".join(body for _, _, body in read.of_kind(clip.RECORD_MEDIA)))
                samples_read += len(pcm)
                loudest = max(loudest, float(np.abs(pcm).max()))
    assert samples_read > 8000 * 20
    assert loudest > 0.1 if sound == "always" else loudest < 0.01, loudest
