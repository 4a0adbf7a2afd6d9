"""AVI as the device writes it, judged by PyAV, OpenCV and ffmpeg: whole, and cut anywhere."""

import io
import random
import shutil
import struct
import subprocess

import av
import pytest
from agent.recording.avi import AviMuxer, header
from PIL import Image

SIZE, FPS, SECONDS = (320, 240), 5, 4
SEED = 20261125


def jpeg(shade: int) -> bytes:
    """A picture that tells its number by its brightness."""
    out = io.BytesIO()
    Image.effect_noise(SIZE, 8).point(lambda v: min(255, max(0, v - 128 + shade))).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def shade(i: int) -> int:
    return 20 + 10 * i


@pytest.fixture(scope="module")
def film():
    """(what was written, the pictures, where each ends): 4 s at 5 a second, the fourth missing, and a tone."""
    data = bytearray()
    ends: list[int] = []
    avi = AviMuxer(*SIZE, FPS, True)
    avi.begin(lambda time_ms, *parts: data.extend(b"".join(parts)))
    pictures = [jpeg(shade(i)) for i in range(FPS * SECONDS)]
    tone = b"".join(struct.pack("<h", 8000 if i // 8 % 2 else -8000) for i in range(80))
    for at in range(0, SECONDS * 1000, 10):
        if at % 200 == 0 and at != 600:
            avi.picture(pictures[at // 200], at)
            ends.append(len(data))
        avi.sound(tone, at)
    del pictures[3]
    avi.end()
    return bytes(data), pictures, ends


@pytest.fixture(scope="module")
def path(film, tmp_path_factory):
    it = tmp_path_factory.mktemp("film") / "film.avi"
    it.write_bytes(film[0])
    return it


def shown(data: bytes) -> tuple[list[tuple[float, int]], int]:
    """What PyAV plays: (seconds, brightness) of each picture, and how many samples of sound."""
    pictures, samples = [], 0
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux():
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                break  # what a cut left of a picture
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    assert (frame.width, frame.height) == SIZE
                    pictures.append((float(frame.time), round(frame.to_ndarray(format="gray").mean())))
                else:
                    samples += frame.samples
    return pictures, samples


def test_pyav_plays_each_picture_at_its_time(film):
    pictures, samples = shown(film[0])
    there = [i for i in range(FPS * SECONDS) if i != 3]
    assert [round(t * FPS) for t, _ in pictures] == there
    assert all(abs(seen - shade(i)) <= 3 for i, (_, seen) in zip(there, pictures, strict=True))
    assert samples == 8000 * SECONDS


def test_opencv_plays_it(film, path):
    cv2 = pytest.importorskip("cv2", reason="no OpenCV; pip install opencv-python-headless")
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == FPS
    seen = []
    while True:
        good, image = capture.read()
        if not good:
            break
        seen.append(round(image.mean()))
    assert [min(range(20), key=lambda i: abs(shade(i) - s)) for s in seen] == [i for i in range(20) if i != 3]


def test_cut_anywhere_it_plays_up_to_the_last_whole_picture(film):
    data, pictures, ends = film
    rng = random.Random(SEED)
    first = len(header(*SIZE, FPS, True))
    for cut in sorted([*ends, *(end - 1 for end in ends), *(rng.randrange(first + 1, len(data)) for _ in range(60))]):
        whole = sum(end - (len(pictures[i]) & 1) <= cut for i, end in enumerate(ends))
        if not whole:
            continue
        played, _ = shown(data[:cut])
        # A player may show what there is of the next one, too.
        assert whole <= len(played) <= whole + 1, f"cut at {cut} of {len(data)}, seed {SEED}"


def test_ffmpeg_has_nothing_to_say_about_it(path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg; apt-get install ffmpeg")
    command = ["ffmpeg", "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    entries = "stream=codec_name,nb_read_frames,r_frame_rate"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", entries, "-of", "csv=p=0", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert told[0] == f"mjpeg,{FPS}/1,{FPS * SECONDS - 1}"
    assert told[1].startswith("pcm_alaw,0/0,")
