"""`patrolink live` against a hub and the agent's live view: ffmpeg plays it, PyAV reads what it records."""

import json
import os
import shutil
import signal
import subprocess
import sys

import av
import pytest

from tests.support import live_camera
from tests.support.console_site import TOKEN, ConsoleSite
from tests.support.polling import wait_until
from tests.support.processes import ignore_sigint

site, camera = live_camera.site, live_camera.camera


def live(site: ConsoleSite, *arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "patrolink", "live", *arguments, "--hub", site.url, "--json"]
    environment = {**os.environ, "PATROLINK_HUB_TOKEN": TOKEN}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def test_it_records(site, camera, tmp_path):
    out = tmp_path / "view.mp4"
    watching = live(site, camera.client.name, "--seconds", "300", "--out", str(out))
    assert any(line == f"recording to {out}\n" for line in watching.stderr)
    wait_until(lambda: camera.live.sent >= 3 * camera.fps)
    camera.failing = True
    code, told, said = ended(watching)
    camera.failing = False
    assert code == 0, said
    facts = json.loads(told)
    assert facts["why"] == "ended by the device"
    with av.open(str(out)) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == ("h264" if camera.fps == 15 else "mjpeg")
        frames = list(film.decode(video=0))
        assert len(frames) == facts["recorded"] > 8
        assert float(frames[-1].pts * stream.time_base) > 2
    reds = [frame.to_ndarray(format="rgb24").astype(int) for frame in (frames[0], frames[-1])]
    places = [((it[:, :, 0] > 150) & (it[:, :, 1] < 110)).any(axis=0).nonzero()[0].mean() for it in reds]
    assert places[0] != places[1], "what moves has moved"


def test_ffmpeg_plays_it(site, camera, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg; Debian package ffmpeg")
    sdp, out = tmp_path / "view.sdp", tmp_path / "view.y4m"
    watching = live(site, camera.client.name, "--sdp", str(sdp))
    try:
        wait_until(lambda: watching.poll() is not None or (sdp.exists() and sdp.read_text().strip()))
        assert watching.poll() is None
        ffmpeg = ["ffmpeg", "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "500000"]
        ffmpeg += ["-i", str(sdp), "-frames:v", "5", "-pix_fmt", "yuv420p", "-strict", "-1", str(out)]
        played = subprocess.run(ffmpeg, capture_output=True, text=True, timeout=60)
        assert played.returncode == 0 and out.stat().st_size > 5 * 320 * 240, played.stderr
        watching.send_signal(signal.SIGINT)
        code, told, said = ended(watching)
    finally:
        watching.kill()
    assert code == 0 and json.loads(told)["packets"] > 10, said
    wait_until(lambda: "told to" in camera.end_reasons)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stop_signal_ends_a_view_with_its_summary(site, camera, tmp_path, number):
    """Also if SIGINT was inherited as ignored; the recording is complete."""
    out = tmp_path / "view.mp4"
    viewer = live(site, camera.client.name, "--out", str(out), preexec_fn=ignore_sigint)
    assert any(line == f"recording to {out}\n" for line in viewer.stderr)
    viewer.send_signal(number)
    code, summary, err = ended(viewer)
    assert code == 0 and json.loads(summary)["packets"] > 0 and "Traceback" not in err
    with av.open(str(out)) as film:
        assert len(list(film.decode(video=0))) == json.loads(summary)["recorded"]


def test_what_it_refuses_and_is_refused(site, camera, tmp_path):
    name, out = camera.client.name, str(tmp_path / "view.mp4")
    code, _, said = ended(live(site, name))
    assert code == 2 and "name --sdp FILE" in said
    code, _, said = ended(live(site, "nobody", "--out", out))
    assert code == 2 and "no device 'nobody'" in said
    code, _, said = ended(live(site, name, "--out", out, "--seconds", "301"))
    assert code == 2 and "seconds" in said
    code, _, said = ended(live(site, name, "--out", str(tmp_path / "no" / "view.mp4")))
    assert code == 2 and "No such file" in said and "name another" in said
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"another recording")
    code, _, said = ended(live(site, name, "--out", str(taken)))
    assert code == 2 and "File exists" in said and taken.read_bytes() == b"another recording"
    camera.refusal = "the time is not known"
    try:
        code, told, said = ended(live(site, name, "--out", out))
    finally:
        camera.refusal = ""
    assert code == 3 and "the time is not known" in said and not told and not os.path.exists(out)
