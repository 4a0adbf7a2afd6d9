"""The recorder of a Linux board: stamp, H.264, sound, cipher and files are real, camera and microphone are simulated.

The source is the demo video, 15 frames per second on a simulated clock.
"""

import io
import json
import shutil

import av
import pytest
from patrolink.evidence import evidence_key, segment
from patrolink.evidence.verdict import VALID
from patrolink.evidence.verify import verify_clip
from patrolink_protocol import clip

pytest.importorskip("cv2", reason="no OpenCV; pip install opencv-python-headless")
from tests.support.recording_board import CONFIG, DEMO_VIDEO, FPS, Board, SimulatedParts  # noqa: E402

PRE_S, POST_S, SEGMENT_S = CONFIG["pre_s"], CONFIG["post_s"], CONFIG["segment_s"]
BEFORE_S, AFTER_S = 11, 8  # recording time before the event, and after it until the clip is sealed
LOUD_S = 2

pytestmark = [
    pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no video for the camera; run `make media`"),
]


def decode(data: bytes) -> tuple[list[int], int]:
    """Decode a file with PyAV; return the time of each picture in ms and the number of samples that are not silent."""
    with av.open(io.BytesIO(data)) as file:
        pictures = [round(frame.pts * frame.time_base * 1000) for frame in file.decode(video=0)]
    with av.open(io.BytesIO(data)) as file:
        loud = sum(int((abs(frame.to_ndarray()) > 0.05).sum()) for frame in file.decode(audio=0))
    return pictures, loud


def test_an_event_makes_a_clip_without_gaps_that_the_site_decrypts_and_plays(tmp_path):
    site = evidence_key.create(tmp_path / "evidence.pem")
    board = Board(tmp_path, site.public, SimulatedParts(loud_s=LOUD_S))
    board.run(BEFORE_S)
    event_ms = board.unix(board.clock.now_ms())
    number = board.recorder.trigger(clip.TRIGGERS.index("sos"), 7, "", board.clock.now_ms())
    board.run(AFTER_S)
    board.recorder.close(board.clock.now_ms())
    assert board.ring_recorder.errors == 0 and board.ring_recorder.loss.total == 0
    assert abs(board.ring_recorder.frames - FPS * (BEFORE_S + AFTER_S)) <= 1

    # As after an upload: the site has the files and the signer.
    folder = tmp_path / "site" / "linux-1" / f"{number:06}"
    folder.mkdir(parents=True)
    lines = [json.loads(line) for line in (tmp_path / "clips" / f"{number:06}.plm").read_bytes().splitlines()]
    segment_lines = [line for line in lines if "seg" in line and "sha256" in line]
    names = [f"{line.get('seg') or line['thumb']}.pls" for line in lines if "sha256" in line]
    for name in [f"{number:06}.plm", *names]:
        shutil.copy(tmp_path / "clips" / name, folder)
    verdict = verify_clip(folder, {"linux-1": [board.signer.public.hex()]}, site)
    assert verdict.verdict == VALID and verdict.decrypted, verdict.findings

    begin = segment_lines[0]["start_ms"]
    assert PRE_S * 1000 <= event_ms - begin <= (PRE_S + SEGMENT_S) * 1000 + 1000 // FPS
    end = segment_lines[-1]["start_ms"] + segment_lines[-1]["ms"]
    assert abs(end - event_ms - POST_S * 1000) <= 200
    times, loud_samples = [], 0
    for line in segment_lines:
        read = segment.read(folder / f"{line['seg']}.pls", site)
        pictures, loud = decode(read.media_file())
        assert read.complete and len(pictures) == read.frames == line["frames"] and line["lost"] == 0
        times += [line["start_ms"] + at for at in pictures]
        loud_samples += loud if line["start_ms"] >= event_ms - 50 else 0
        assert loud == 0 or read.header.flags & clip.FLAG_SOUND
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert len(times) == sum(line["frames"] for line in segment_lines) and min(gaps) > 0
    # Also at segment boundaries.
    assert max(gaps) <= 1000 // FPS + 1 and abs(len(times) - (end - begin) * FPS / 1000) <= 2, gaps
    assert loud_samples / 8000 == pytest.approx(LOUD_S, abs=0.2)


def test_a_power_cut_leaves_playable_segments_and_recording_continues_within_two_seconds(tmp_path):
    site = evidence_key.create(tmp_path / "evidence.pem")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    board = Board(first, site.public, SimulatedParts(LOUD_S))
    board.run(SEGMENT_S + 2.5)
    frames = board.ring_recorder.frames
    shutil.copytree(first, second)  # the storage at the time of the power cut
    board.recorder.close(board.clock.now_ms())
    restarted = Board(second, site.public, SimulatedParts(LOUD_S), boot=2)
    restarted.run(2)
    assert restarted.ring_recorder.frames > FPS
    restarted.recorder.close(restarted.clock.now_ms())
    segments = [segment.read(path, site) for path in sorted((second / "clips").glob("000001-*.pls"))]
    assert all(part.complete for part in segments[:-1]) and not segments[-1].complete
    played = sum(len(decode(part.media_file())[0]) for part in segments if part.media)
    assert frames - FPS <= played <= frames + 1, f"{played} of {frames}"  # up to one second has not been stored yet
