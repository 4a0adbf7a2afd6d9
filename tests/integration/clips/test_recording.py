"""A Linux board's recorder with all its real parts, in real time: camera, stamp, H.264, sound, cipher, files.

The film is build/media/bikes.mp4 at 640x480, 15 pictures a second; the voice comes from an emulated headset.
"""

import io
import json
import shutil
import time
from array import array

import av
import pytest
from patrolink.emulator.peripherals.headset import Headset
from patrolink.evidence import evidence_key, segment
from patrolink.evidence.verdict import VALID
from patrolink.evidence.verify import verify_clip
from patrolink_protocol import clip

pytest.importorskip("cv2", reason="no OpenCV; pip install opencv-python-headless")
from tests.support.recording_board import CONFIG, DEMO_VIDEO, FPS, Board  # noqa: E402

PRE_S, POST_S, SEGMENT_S = CONFIG["pre_s"], CONFIG["post_s"], CONFIG["segment_s"]
BEFORE_S, AFTER_S = 11, 8  # filmed before the event, and after it: until its clip is sealed

pytestmark = [
    pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no film for the camera; make media"),
    pytest.mark.alone,
]


def told(data: bytes) -> tuple[list[int], int]:
    """What plays of a film: ms of each picture, and samples of sound that are not silence."""
    with av.open(io.BytesIO(data)) as file:
        pictures = [round(frame.pts * frame.time_base * 1000) for frame in file.decode(video=0)]
    with av.open(io.BytesIO(data)) as file:
        loud = sum(int((abs(frame.to_ndarray()) > 0.05).sum()) for frame in file.decode(audio=0))
    return pictures, loud


def test_an_event_is_a_clip_without_a_hole_that_the_site_opens_and_plays(tmp_path):
    site = evidence_key.create(tmp_path / "evidence.pem")
    headset = Headset()
    headset.speak(array("h", (8000, -8000) * 40 * 200).tobytes())
    board = Board(tmp_path, site.public, headset.mic)
    try:
        board.run(BEFORE_S)
        event_ms = board.unix(board.clock.now_ms())
        number = board.recorder.trigger(clip.TRIGGERS.index("sos"), 7, "", board.clock.now_ms())
        board.run(AFTER_S)
        board.recorder.close(board.clock.now_ms())
    finally:
        headset.close()
    assert board.log == [] and board.ring_recorder.errors == 0
    assert board.ring_recorder.loss.total == 0 and board.camera.dropped == 0
    assert abs(board.ring_recorder.frames - FPS * (BEFORE_S + AFTER_S)) <= FPS  # the camera took a moment to open

    # The site has what was uploaded: the clip's files, and who signs.
    folder = tmp_path / "site" / "linux-1" / f"{number:06}"
    folder.mkdir(parents=True)
    lines = [json.loads(line) for line in (tmp_path / "clips" / f"{number:06}.plm").read_bytes().splitlines()]
    said = [line for line in lines if "seg" in line and "sha256" in line]
    names = [f"{line.get('seg') or line['thumb']}.pls" for line in lines if "sha256" in line]
    for name in [f"{number:06}.plm", *names]:
        shutil.copy(tmp_path / "clips" / name, folder)
    found = verify_clip(folder, {"linux-1": [board.signer.public.hex()]}, site)
    assert found.verdict == VALID and found.decrypted, found.findings

    begin = said[0]["start_ms"]
    assert PRE_S * 1000 <= event_ms - begin <= (PRE_S + SEGMENT_S) * 1000 + 1000 // FPS
    end = said[-1]["start_ms"] + said[-1]["ms"]
    assert abs(end - event_ms - POST_S * 1000) <= 200
    times, spoken = [], 0
    for line in said:
        held = segment.read(folder / f"{line['seg']}.pls", site)
        pictures, loud = told(held.media_file())
        assert held.complete and len(pictures) == held.frames == line["frames"] and line["lost"] == 0
        times += [line["start_ms"] + at for at in pictures]
        spoken += loud if line["start_ms"] >= event_ms - 50 else 0
        assert loud == 0 or held.header.flags & clip.FLAG_SOUND
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert len(times) == sum(line["frames"] for line in said) and min(gaps) > 0
    # Over the boundaries of segments, too: a camera that was late by less than that makes up for it.
    assert max(gaps) < 500 and abs(len(times) - (end - begin) * FPS / 1000) <= 2, gaps
    assert spoken / 8000 > 1.5  # of 2 s that were said into it


def test_what_a_power_cut_leaves_plays_and_recording_goes_on_within_two_seconds(tmp_path):
    site = evidence_key.create(tmp_path / "evidence.pem")
    headset = Headset()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    try:
        board = Board(first, site.public, headset.mic)
        board.run(SEGMENT_S + 2.5)
        frames = board.ring_recorder.frames
        shutil.copytree(first, second)  # what storage had at that moment
        board.recorder.close(board.clock.now_ms())
        begin = time.monotonic()
        again = Board(second, site.public, headset.mic, boot=2)
        while again.ring_recorder.frames == 0:
            again.run(0.02)
        assert time.monotonic() - begin < 2
        again.recorder.close(again.clock.now_ms())
    finally:
        headset.close()
    left = [segment.read(path, site) for path in sorted((second / "clips").glob("000001-*.pls"))]
    assert all(it.complete for it in left[:-1]) and not left[-1].complete
    played = sum(len(told(it.media_file())[0]) for it in left if it.media)
    assert frames - FPS <= played <= frames + 1, f"{played} of {frames}"  # a second of film is on its way to storage
