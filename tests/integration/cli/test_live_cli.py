"""`patrolink live` with a hub and the agent's live view. ffmpeg plays the stream, PyAV reads the recording."""

import os
import shutil
import signal
import subprocess
import sys

import av
import pytest
from patrolink.cli import main

from tests.support import live_camera
from tests.support.console_site import ConsoleSite
from tests.support.json_lines import records, summary
from tests.support.polling import wait_until
from tests.support.processes import ignore_sigint
from tests.support.site_file import TOKEN

site, camera = live_camera.site, live_camera.camera


def start_live(site: ConsoleSite, *arguments: str, **options) -> subprocess.Popen:
    """Start `patrolink live`."""
    command = [sys.executable, "-m", "patrolink", "live", *arguments, "--hub", site.url, "--json"]
    environment = {**os.environ, "PATROLINK_HUB_TOKEN": TOKEN}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def wait_end(process: subprocess.Popen) -> tuple[int, str, str]:
    """Wait until a process ends; return exit code, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.long(25)
def test_out_records_complete_pictures(site, camera, tmp_path):
    out = tmp_path / "view.mp4"
    viewer = start_live(site, camera.client.name, "--seconds", "300", "--out", str(out))
    assert any(line == f"recording to {out}\n" for line in viewer.stderr)
    wait_until(lambda: camera.live.sent >= 3 * camera.fps)
    camera.failing = True
    code, stdout, stderr = wait_end(viewer)
    camera.failing = False
    assert code == 0, stderr
    counts = summary(stdout)
    assert counts["text"] == "ended by the device"
    with av.open(str(out)) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == ("h264" if camera.fps == 15 else "mjpeg")
        frames = list(video.decode(video=0))
        assert len(frames) == counts["pictures"] > 8
        assert float(frames[-1].pts * stream.time_base) > 2
    pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in (frames[0], frames[-1])]
    # Mean columns of the red rectangle, which moves.
    columns = [((p[:, :, 0] > 150) & (p[:, :, 1] < 110)).any(axis=0).nonzero()[0].mean() for p in pictures]
    assert columns[0] != columns[1]


def test_sdp_plays_in_ffmpeg(site, camera, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (Debian package ffmpeg)")
    sdp, out = tmp_path / "view.sdp", tmp_path / "view.y4m"
    viewer = start_live(site, camera.client.name, "--sdp", str(sdp))
    try:
        wait_until(lambda: viewer.poll() is not None or (sdp.exists() and sdp.read_text().strip()))
        assert viewer.poll() is None
        ffmpeg = ["ffmpeg", "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "500000"]
        ffmpeg += ["-i", str(sdp), "-frames:v", "5", "-pix_fmt", "yuv420p", "-strict", "-1", str(out)]
        result = subprocess.run(ffmpeg, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0 and out.stat().st_size > 5 * 320 * 240, result.stderr
        viewer.send_signal(signal.SIGINT)
        code, stdout, stderr = wait_end(viewer)
    finally:
        viewer.kill()
    assert code == 0 and summary(stdout)["packets"] > 10, stderr
    wait_until(lambda: "stopped by the hub" in camera.end_reasons)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_stop_signal_ends_a_view_with_its_summary(site, camera, tmp_path, number):
    """The recording is complete, also if SIGINT was inherited as ignored."""
    out = tmp_path / "view.mp4"
    viewer = start_live(site, camera.client.name, "--out", str(out), preexec_fn=ignore_sigint)
    assert any(line == f"recording to {out}\n" for line in viewer.stderr)
    viewer.send_signal(number)
    code, stdout, err = wait_end(viewer)
    assert code == 0 and summary(stdout)["packets"] > 0 and "Traceback" not in err
    with av.open(str(out)) as video:
        assert len(list(video.decode(video=0))) == summary(stdout)["pictures"]


def test_errors_are_reported_with_their_reason(site, camera, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["live", *arguments, "--hub", site.url, "--json"])
        return code, *capsys.readouterr()

    name, out = camera.client.name, str(tmp_path / "view.mp4")
    code, _, stderr = run(name)
    assert code == 2 and "name --sdp FILE" in stderr
    code, _, stderr = run("nobody", "--out", out)
    assert code == 2 and "no device 'nobody'" in stderr
    code, _, stderr = run(name, "--out", out, "--seconds", "301")
    assert code == 2 and "seconds" in stderr
    code, _, stderr = run(name, "--out", str(tmp_path / "no" / "view.mp4"))
    assert code == 2 and "No such file" in stderr and "name another" in stderr
    existing = tmp_path / "existing.mp4"
    existing.write_bytes(b"another recording")
    code, _, stderr = run(name, "--out", str(existing))
    assert code == 2 and "File exists" in stderr and existing.read_bytes() == b"another recording"
    camera.refusal = "the time is not known"
    try:
        code, stdout, stderr = run(name, "--out", out)
    finally:
        camera.refusal = ""
    assert code == 3 and "the time is not known" in stderr and not os.path.exists(out)
    assert records(stdout)[-1]["exit_code"] == 3
