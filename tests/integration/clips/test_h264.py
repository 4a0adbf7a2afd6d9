"""H.264 as a Linux board writes it, of a real film: judged by PyAV and ffprobe, whole, cut anywhere, and abused."""

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
OUT_MS = FRAGMENT_MS + 1000 // FPS + 4 * 128  # of a picture: it waits for the sound beside it; a frame of AAC is 128 ms

pytestmark = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no film for the camera; make media")


@pytest.fixture(scope="module")
def pictures():
    with av.open(str(DEMO_VIDEO)) as film:
        frames = [frame.to_ndarray(format="bgr24") for frame in film.decode(video=0)]
    return [cv2.resize(frame, SIZE) for frame in frames[: FPS * SECONDS]]


def tone(at_ms: int, hz: int = 500) -> bytes:
    """10 ms of a tone."""
    t = np.arange(at_ms * 8, at_ms * 8 + 80) / 8000
    return (8000 * np.sin(2 * np.pi * hz * t)).astype("<i2").tobytes()


class Tape:
    """A sink: what came, when."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []

    def __call__(self, time_ms: int, *parts: bytes) -> None:
        self.records.append((time_ms, b"".join(parts)))

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.records)


def filmed(given, sound=True, heard=lambda ms: True, size=SIZE, ms=SECONDS * 1000):
    """Film `given`, (time, picture), with the tone where it is heard; return the tape."""
    film, tape, given = h264.H264Muxer(*size, FPS, sound=sound), Tape(), list(given)
    film.begin(tape)
    for now in range(0, ms, 10):
        while given and given[0][0] <= now:
            film.picture(given[0][1], given.pop(0)[0])
        if sound and heard(now):
            film.sound(tone(now), now)
    film.end()
    return tape


@pytest.fixture(scope="module")
def film(pictures):
    """(tape, times): a pace that is not even."""
    below = random.Random(SEED).randrange
    times = [i * 1000 // FPS + below(20) for i in range(len(pictures))]
    return filmed(zip(times, pictures, strict=True)), times


def packets(data: bytes, kind: str) -> list:
    with av.open(io.BytesIO(data)) as file:
        return [packet for packet in file.demux(**{kind: 0}) if packet.pts is not None]


def ms(of) -> int:
    return round(of.pts * of.time_base * 1000)


def shown(data: bytes) -> list[tuple[int, np.ndarray]]:
    """What PyAV plays: (ms, picture)."""
    with av.open(io.BytesIO(data)) as file:
        return [(ms(frame), frame.to_ndarray(format="bgr24")) for frame in file.decode(video=0)]


def samples(data: bytes) -> tuple[float, np.ndarray]:
    """(seconds of the first sample, all of them) of the sound."""
    with av.open(io.BytesIO(data)) as file:
        frames = list(file.decode(audio=0))
    return frames[0].time, np.concatenate([frame.to_ndarray()[0] for frame in frames])


def fragments(data: bytes) -> list[int]:
    """Where the header, each fragment, and the index of them all end."""
    ends, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        at += size
        if kind in (b"moov", b"mdat", b"mfra"):
            ends.append(at)
    assert at == len(data)
    return ends


def test_every_picture_is_there_at_its_time_and_looks_as_it_did(film, pictures):
    tape, times = film
    played = shown(tape.data)
    assert [at for at, _ in played] == times
    for (at, picture), before in zip(played, pictures, strict=True):
        assert cv2.PSNR(picture, before) > 28, at
    keys = [ms(packet) for packet in packets(tape.data, "video") if packet.is_keyframe]
    assert keys[0] == times[0] and max(b - a for a, b in zip(keys, keys[1:], strict=False)) <= 1000 + 1000 // FPS + 20


def test_ffprobe_finds_both_tracks_whole(film, tmp_path):
    if not shutil.which("ffprobe"):
        pytest.skip("no ffprobe; apt-get install ffmpeg")
    tape, times = film
    path = tmp_path / "film.mp4"
    path.write_bytes(tape.data)
    asked = ["-count_frames", "-show_entries", "stream=codec_name,profile,width,height,nb_read_frames,start_time"]
    command = ["ffprobe", "-v", "warning", *asked, "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    video, sound = json.loads(done.stdout)["streams"]
    assert (video["codec_name"], video["width"], video["height"]) == ("h264", *SIZE)
    assert int(video["nb_read_frames"]) == len(times) and sound["codec_name"] == "aac"


def test_it_leaves_in_whole_fragments_as_it_is_filmed(film):
    tape, _ = film
    ends = fragments(tape.data)
    assert len(ends) - 1 >= SECONDS * 1000 // (FRAGMENT_MS + 1000 // FPS + 20)
    at = [time_ms for time_ms, _ in tape.records]
    assert at == sorted(at)
    written, out = 0, []
    for time_ms, data in tape.records:
        written += len(data)
        assert written in ends
        out.append((time_ms, written))
    behind = [
        next(time_ms for time_ms, written in out if written >= packet.pos + packet.size) - ms(packet)
        for packet in packets(tape.data, "video")
    ]
    assert max(behind) <= OUT_MS, behind


class Memory(bytearray):
    """A writer of storage."""

    behind, fault = 0, ""

    def write(self, data) -> None:
        self.extend(data)

    def close(self) -> None:
        pass


def test_a_segment_cut_anywhere_plays_up_to_its_last_whole_record(film, tmp_path):
    tape, times = film
    evidence = evidence_key.create(tmp_path / "evidence.pem")
    made, stored, mine = SegmentWriter(), Memory(), SegmentKeys(evidence.public)
    steps.whole(mine.load())
    step, key = mine.take()
    header = clip.SegmentHeader(clip.H264_MP4, 0, *SIZE, 1, step, 0, mine.recipient, mine.ephemeral)
    made.begin(stored, header, key)
    length, ends = 0, {}  # of each record in the segment: how much of the film there is by then
    for time_ms, data in tape.records:
        made.media(time_ms, data)
        length += len(data)
        ends[made.size] = length
    made.end(SECONDS * 1000)
    whole = packets(tape.data, "video")
    below = random.Random(SEED).randrange
    for cut in [*ends, *(below(min(ends), len(stored)) for _ in range(200))]:
        left = segment.parse(bytes(stored[:cut]), evidence).media_file()
        played = [at for at, _ in shown(left)]
        length = max(length for end, length in ends.items() if end <= cut)
        assert len(left) == length, f"seed {SEED}, {cut} bytes"
        assert played == [ms(p) for p in whole if p.pos < length] == times[: len(played)], f"seed {SEED}, {cut} bytes"


def test_sound_and_picture_are_in_step():
    """A flash and a bang at once, at 2 s; then silence of the microphone for 1 s, and another at 4 s."""
    dark, light = np.zeros((*SIZE[::-1], 3), np.uint8), np.full((*SIZE[::-1], 3), 255, np.uint8)
    bang = lambda now: now // 100 in (20, 40)  # noqa: E731
    film, tape = h264.H264Muxer(*SIZE, FPS), Tape()
    film.begin(tape)
    for now in range(0, 5000, 10):
        if now % 50 == 0:
            film.picture(light if bang(now) else dark, now)
        if not 2500 <= now < 3500:  # a microphone that has gone
            film.sound(tone(now) if bang(now) else bytes(160), now)
    film.end()
    flashes = [at for at, picture in shown(tape.data) if picture.mean() > 128]
    begin, heard = samples(tape.data)
    loud = np.flatnonzero(np.abs(heard) > 0.1) / 8000 + begin
    assert flashes[0] == 2000 and flashes[2] == 4000
    assert abs(loud[0] - 2.0) < 0.02, loud[0]
    assert abs(loud[loud > 3][0] - 4.0) < 0.02, loud[loud > 3][0]


def test_a_microphone_that_gives_nothing_or_all_at_once_holds_no_picture_up(pictures):
    times = [i * 1000 // FPS for i in range(len(pictures))]
    silent = filmed(zip(times, pictures, strict=True), heard=lambda now: False)
    assert [at for at, _ in shown(silent.data)] == times and max(abs(samples(silent.data)[1])) < 0.01
    assert silent.records[0][0] <= OUT_MS
    film, tape = h264.H264Muxer(*SIZE, FPS), Tape()
    film.begin(tape)
    for i, picture in enumerate(pictures):
        film.picture(picture, times[i])
        for _ in range(100 if i % 30 == 0 else 0):  # a second of it, all with one time
            film.sound(tone(0), times[i])
    film.end()
    assert [at for at, _ in shown(tape.data)] == times
    begin, heard = samples(tape.data)
    assert begin == 0 and len(heard) / 8000 < SECONDS + 0.5


def test_without_sound_there_is_no_track_of_it(pictures):
    tape = filmed([(0, pictures[0]), (70, pictures[1])], sound=False)
    with av.open(io.BytesIO(tape.data)) as file:
        assert [stream.type for stream in file.streams] == ["video"]
    assert len(shown(tape.data)) == 2


@pytest.mark.parametrize("size", [(640, 480), (641, 479), (322, 182), (64, 64), (1280, 720)])
def test_pictures_of_any_size_are_scaled(pictures, size):
    below = random.Random(SEED).randrange
    given = [cv2.resize(picture, (below(1, 900), below(1, 700))) for picture in pictures[:12]]
    given += [pictures[0][::2, ::-3], np.ascontiguousarray(pictures[0][:1])]
    tape = filmed([(i * 70, picture) for i, picture in enumerate(given)], size=size, sound=False)
    played = shown(tape.data)
    assert len(played) == len(given), f"seed {SEED}"
    assert {picture.shape for _, picture in played} == {(size[1] & ~1, size[0] & ~1, 3)}


def test_a_clock_that_goes_back_or_far_on_costs_no_picture(pictures):
    film, tape = h264.H264Muxer(*SIZE, FPS), Tape()
    film.begin(tape)
    for time_ms in (0, 100, 50, 50, 0, 1000, 999, 500_000, 500_067):
        film.picture(pictures[0], time_ms)
        film.sound(tone(0), time_ms)
    film.end()
    times = [at for at, _ in shown(tape.data)]
    assert times == [0, 100, 101, 102, 103, 1000, 1001, 500_000, 500_067]


def test_files_follow_each_other_and_one_may_be_empty(pictures):
    film = h264.H264Muxer(*SIZE, FPS)
    tapes = [Tape() for _ in range(4)]
    for n, tape in enumerate(tapes):
        film.begin(tape)
        for i in range(10 * n):
            film.picture(pictures[i], 70 * i)
        film.end()
    assert [len(shown(tape.data)) for tape in tapes[1:]] == [10, 20, 30]


def test_a_jpeg_is_the_picture(pictures):
    data = h264.encode_jpeg(pictures[0])
    assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
    again = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert cv2.PSNR(again, pictures[0]) > 30 and len(h264.encode_jpeg(pictures[0], 30)) < len(data)


class Still:
    """A camera of one picture."""

    fault, dropped = "", 3

    def __init__(self, picture) -> None:
        self.picture, self.now = picture, 0

    def frame(self):
        return self.picture.copy(), self.now, None


@pytest.mark.parametrize("width", [160, 320, 640, 1920])
def test_a_stamp_says_who_when_and_where_and_leaves_the_rest_alone(pictures, width):
    picture = cv2.resize(pictures[0], (width, width * 3 // 4))
    camera = Still(picture)
    places = {0: (0, None, None), 1000: (1795000000999, 460500001, -145000000), 1500: (1795000001000, 0, 0)}
    stamped = h264.StampedCamera(camera, "linux-1", places.__getitem__)
    seen = []
    for now in places:
        camera.now = now
        got = stamped.frame()[0]
        assert got.shape == picture.shape
        changed = np.flatnonzero((got != picture).any(axis=(1, 2)))
        assert changed[0] > picture.shape[0] * 0.75 and got[changed[0] :].max() > 128
        seen.append(got)
    assert not (seen[0] == seen[1]).all() and not (seen[1] == seen[2]).all()
    assert (stamped.dropped, stamped.fault) == (3, "")


def test_the_words_of_a_stamp():
    assert h264.stamp_text("linux-1", 0, None, None) == "linux-1  time unknown  position unknown"
    said = h264.stamp_text("linux-1", 1795000000999, 460500001, -145000000)
    assert said == "linux-1  2026-11-18 11:06:40 UTC  46.05000 -14.50000"


class Film(h264.H264Muxer):
    """One picture for all: what the world's camera gives is no array."""

    PICTURE = np.zeros((120, 160, 3), np.uint8)

    def picture(self, picture, time_ms):
        super().picture(self.PICTURE, time_ms)


class Street(test_clip_sound.Street):
    """The same board as in the unit test, but that it writes MP4."""

    def container(self):
        return Film(160, 120, self.fps)


@pytest.mark.parametrize("sound", ["event", "always"])
def test_no_sample_from_before_a_trigger_is_in_a_film(sound):
    config = {"sound": sound, "pre_s": 5, "post_s": 3, "segment_s": 2, "quota_kb": 32768, "lock_kb": 32768}
    loudest = heard = 0
    for seed in (14, 15):  # 14 is one that has the loop held up while another listens
        world = Street(config, 200).boot().run(7)
        assert test_clip_sound.patrol(world, seeded(seed))
        for name in sorted(name for name in world.files.data if name.endswith(".pls")):
            read = world.read(name)
            if read.header.codec == clip.H264_MP4 and read.header.flags & clip.FLAG_SOUND:
                _, pcm = samples(b"".join(body for _, _, body in read.of(clip.RECORD_MEDIA)))
                heard += len(pcm)
                loudest = max(loudest, float(np.abs(pcm).max()))
    assert heard > 8000 * 20
    assert loudest > 0.1 if sound == "always" else loudest < 0.01, loudest
