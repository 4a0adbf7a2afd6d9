"""AVI files of the device, complete and truncated, are played by PyAV, OpenCV and ffmpeg."""

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
    """Return a noisy picture with this mean brightness."""
    out = io.BytesIO()
    Image.effect_noise(SIZE, 8).point(lambda v: min(255, max(0, v - 128 + shade))).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def shade(i: int) -> int:
    return 20 + 10 * i


@pytest.fixture(scope="module")
def video():
    """Return (file, pictures, end offset of each picture): 4 s at 5 fps without the fourth picture, and a tone."""
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
def path(video, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.avi"
    path.write_bytes(video[0])
    return path


def decode(data: bytes) -> tuple[list[tuple[float, int]], int]:
    """Play a file with PyAV; return (seconds, brightness) of each picture, and the number of samples."""
    pictures, samples = [], 0
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux():
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                break  # the picture is truncated
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    assert (frame.width, frame.height) == SIZE
                    pictures.append((float(frame.time), round(frame.to_ndarray(format="gray").mean())))
                else:
                    samples += frame.samples
    return pictures, samples


def test_pyav_plays_each_picture_at_its_time(video):
    pictures, samples = decode(video[0])
    numbers = [i for i in range(FPS * SECONDS) if i != 3]
    assert [round(t * FPS) for t, _ in pictures] == numbers
    assert all(abs(brightness - shade(i)) <= 3 for i, (_, brightness) in zip(numbers, pictures, strict=True))
    assert samples == 8000 * SECONDS


def test_opencv_plays_each_picture(video, path):
    cv2 = pytest.importorskip("cv2", reason="no OpenCV; pip install opencv-python-headless")
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == FPS
    brightness = []
    while True:
        is_valid, image = capture.read()
        if not is_valid:
            break
        brightness.append(round(image.mean()))
    assert [min(range(20), key=lambda i: abs(shade(i) - s)) for s in brightness] == [i for i in range(20) if i != 3]


def test_a_truncated_file_plays_up_to_its_last_complete_picture(video):
    data, pictures, ends = video
    rng = random.Random(SEED)
    first = len(header(*SIZE, FPS, True))
    for cut in sorted([*ends, *(end - 1 for end in ends), *(rng.randrange(first + 1, len(data)) for _ in range(60))]):
        complete = sum(end - (len(pictures[i]) & 1) <= cut for i, end in enumerate(ends))
        if not complete:
            continue
        played, _ = decode(data[:cut])
        # A player may show part of the next picture.
        assert complete <= len(played) <= complete + 1, f"cut at {cut} of {len(data)}, seed {SEED}"


def test_ffmpeg_reports_no_error(path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg; apt-get install ffmpeg")
    command = ["ffmpeg", "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    entries = "stream=codec_name,nb_read_frames,r_frame_rate"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", entries, "-of", "csv=p=0", str(path)]
    streams = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert streams[0] == f"mjpeg,{FPS}/1,{FPS * SECONDS - 1}"
    assert streams[1].startswith("pcm_alaw,0/0,")
