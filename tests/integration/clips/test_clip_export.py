"""`patrolink clip export` and `show`. Results are checked with ffmpeg, ffprobe, PyAV, Pillow, gpxpy and sha256sum."""

import html
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import time

import av
import gpxpy
import numpy as np
import pytest
from patrolink.cli import main
from patrolink.core.decoder import rfc3339
from patrolink.evidence import evidence_key, segment
from patrolink_protocol import clip
from PIL import Image

from tests.simulation import clip_alterations as alterations
from tests.support import clip_maker
from tests.support.json_lines import records

pytest.importorskip("cv2", reason="no OpenCV, with which the device encodes: pip install opencv-python-headless")
pytestmark = [
    pytest.mark.skipif(not clip_maker.DEMO_VIDEO.exists(), reason="no build/media/bikes.mp4: run `make media`"),
    pytest.mark.skipif(not shutil.which("ffprobe"), reason="no ffprobe: apt install ffmpeg"),
]
CODECS = {"mjpeg": clip.MJPEG_AVI, "h264": clip.H264_MP4}
SOS, PHOTO = 2, 3  # clip numbers of clip_maker.make


@pytest.fixture(scope="module", params=CODECS)
def device(request, tmp_path_factory):
    return clip_maker.make(tmp_path_factory.mktemp(request.param) / "clips", request.param, CODECS[request.param])


@pytest.fixture(scope="module")
def export(device):
    """Export the SOS; return the device, the folder of the clip, the folder of the export, and the output of --json."""
    folder = device.pem.parent / "clips" / device.name / f"{SOS:06d}"
    return device, folder, *_export(folder, device.pem, device.pem.parent / "export")


def _export(path, pem, out, *options, code=0):
    """Run the command; return the folder and its JSON output."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", output)
        arguments = ["clip", "export", str(path), "--evidence-key", str(pem), "--out", str(out), "--json", *options]
        assert main(arguments) == code
    return out, records(output.getvalue(), "clip")


def _copy(device, tmp_path, number=SOS):
    """Copy all clips and return the folder of one."""
    shutil.copytree(device.pem.parent / "clips", tmp_path / "clips")
    return tmp_path / "clips" / device.name / f"{number:06d}"


def _lines(folder):
    return [json.loads(line) for line in next(folder.glob("*.plm")).read_text().splitlines()]


def _segments(folder):
    return [line for line in _lines(folder) if "seg" in line and "sha256" in line]


def _only(folder, pattern):
    """Return the one file that matches."""
    (path,) = folder.glob(pattern)
    return path


def _times_ms(path):
    """Return the times of a film's frames in ms, from ffprobe."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    out = subprocess.run([*command, path], capture_output=True, text=True, check=True).stdout
    return [round(float(line.strip(",")) * 1000) for line in out.split()]


def _captured_ms(device, line):
    """Return the capture times of the pictures of a segment, in ms since clip_maker.EPOCH_MS."""
    start = line["start_ms"] - clip_maker.EPOCH_MS
    return [time for time in device.camera.times_ms if start <= time][: line["frames"]]


def _ffmpeg(*arguments):
    command = ["ffmpeg", "-v", "error", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, check=True)
    assert not result.stderr, result.stderr
    return result.stdout


def test_every_picture_has_its_capture_time(export):
    device, folder, out, clips = export
    lines = _segments(folder)
    captured = [time for line in lines for time in _captured_ms(device, line)]
    assert len(captured) == sum(line["frames"] for line in lines) > 30
    assert _times_ms(film := _only(out, "*.mp4")) == [time - captured[0] for time in captured]
    values = len(captured), "valid", rfc3339(clip_maker.EPOCH_MS + captured[0])
    assert tuple(clips[0][name] for name in ("pictures", "verdict", "start_time")) == values
    _ffmpeg("-xerror", "-i", film, "-f", "null", "-")


def test_the_film_uses_widely_supported_formats(export):
    film = _only(export[2], "*.mp4")
    data = film.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(film)) as container:
        video, sound, text = container.streams
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height) == clip_maker.SIZE
        assert (sound.codec_context.name, sound.codec_context.sample_rate) == ("aac", 48000)
        assert text.codec_context.name == "mov_text"
        assert container.metadata["title"] == f"{export[0].name}, clip 2: SOS"


def test_pictures_are_those_of_the_camera(export):
    """H.264 is copied unchanged; the PSNR of re-encoded JPEG pictures is above 30 dB."""
    device, folder, out, clips = export
    with av.open(str(_only(out, "*.mp4"))) as film:
        packets = [bytes(packet) for packet in film.demux(video=0) if packet.size]
        film.seek(0)
        decoded = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    if device.codec == clip.H264_MP4:
        assert clips[0]["copied"]
        recorded = []
        for line in _segments(folder):
            media = segment.read(folder / f"{line['seg']}.pls", device.evidence).media_file()
            with av.open(io.BytesIO(media)) as film:
                recorded += [bytes(packet) for packet in film.demux(video=0) if packet.size]
        assert packets == recorded
    first = device.camera.times_ms.index(_captured_ms(device, _segments(folder)[0])[0])
    film = clip_maker.pictures()
    for n, picture in enumerate(decoded):
        expected = film[(first + n) % len(film)][0][:, :, ::-1].astype(float)
        assert 10 * np.log10(255**2 / np.mean((picture - expected) ** 2)) > 30, n


def test_sound_starts_with_the_event_at_its_time(export):
    device, folder, out, _ = export
    with av.open(str(_only(out, "*.mp4"))) as film:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
        blocks = [block.to_ndarray()[0] for frame in film.decode(audio=0) for block in resampler.resample(frame)]
    samples = np.concatenate(blocks).astype(float)
    lines = _segments(folder)
    silent_ms = lines[2]["start_ms"] - lines[0]["start_ms"]  # the trigger ends the second segment
    start_ms = int(np.argmax(np.abs(samples) > 2000)) / 8
    assert abs(start_ms - silent_ms) < 100
    tail = samples[-12000:-4000]
    assert np.argmax(np.abs(np.fft.rfft(tail))) * 8000 / len(tail) == pytest.approx(440, abs=2)
    assert abs(len(samples) / 8 - (lines[-1]["start_ms"] + lines[-1]["ms"] - lines[0]["start_ms"])) < 300


def test_subtitles_show_time_and_position(export):
    _, folder, out, _ = export
    subtitles = _only(out, "*.srt").read_text()
    embedded = re.sub(
        r"</?font[^>]*>", "", _ffmpeg("-i", _only(out, "*.mp4"), "-map", "0:s", "-f", "srt", "-").decode()
    )
    assert embedded.split() == subtitles.split()
    blocks = subtitles.strip().split("\n\n")
    assert blocks[0].split("\n")[1:3] == ["00:00:00,000 --> 00:00:01,000", "2026-11-18 11:06:55.390 UTC"]
    assert len(blocks) == 9 and blocks[-1].split("\n")[1] == "00:00:08,000 --> 00:00:08,110"
    assert re.fullmatch(r"46\.0501\d\d 14\.5002\d\d  ±3 m  5\.0 km/h", blocks[4].split("\n")[3])


def test_the_track_holds_the_positions_of_the_segments(export):
    device, folder, out, clips = export
    names = [f"{line['seg']}.pls" for line in _segments(folder)]
    fixes = [fix for name in names for fix in segment.read(folder / name, device.evidence).fixes]
    (track,) = gpxpy.parse(_only(out, "*.gpx").read_text()).tracks
    assert [(point.latitude, point.longitude) for point in track.segments[0].points] == [
        (fix.lat_deg, fix.lon_deg) for fix in fixes
    ]
    points = json.loads(_only(out, "*.geojson").read_text())["features"]
    assert points[0]["geometry"]["type"] == "LineString" and len(points) == 1 + len(fixes) == 1 + clips[0]["fixes"]


def _red_pixels(path):
    """Return the number of pixels that have the red of an urgent event's frame."""
    return int(np.all(np.asarray(Image.open(path).convert("RGB")) == (0xCF, 0x22, 0x2E), axis=2).sum())


def test_the_contact_sheet_frames_only_the_sos_in_red(device, export, tmp_path):
    assert _red_pixels(_only(export[2], "*-contact.png")) > 4 * (360 + 153)
    _export(device.pem.parent / "clips" / device.name / "000001", device.pem, tmp_path)
    assert _red_pixels(_only(tmp_path, "*-contact.png")) == 0


def test_the_sheet_is_self_contained_and_the_hashes_match(export):
    device, folder, out, clips = export
    page = _only(out, "*-sheet.html").read_text()
    assert "Verdict: valid<" in page and ">TAMPERED<" not in page and "{{" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|<script|https?://""", page)
    for line in _lines(folder):
        for value in (line.get("sha256"), line.get("sig"), line.get("signer"), line.get("chain")):
            assert value is None or value in page
    result = subprocess.run(
        ["sha256sum", "-c", _only(out, "*.sha256").name], cwd=out, capture_output=True, text=True, check=True
    )
    assert result.stdout.count(": OK\n") == len(list(out.iterdir())) - 1 == len(clips[0]["files"]) - 1


def _value(page, label):
    """Return the value next to a label in the tables of a sheet."""
    return html.unescape(re.search(f"<th>{label}</th><td>(?:<code>)?([^<]*)<", page)[1])


def test_the_proof_is_on_the_first_page_and_hashes_are_in_the_appendix(export):
    device, folder, out, _ = export
    page = _only(out, "*-sheet.html").read_text()
    first, appendix = page.index('<h2 class="page">Pictures'), page.index("Appendix A")
    for text in ("Verdict: valid", "Signed by", "Place", "Event at", "<svg", "First picture after the event"):
        assert page.index(text) < first, text
    assert all(page.index(line["sha256"]) > appendix for line in _segments(folder))
    assert _value(page, "Device") == device.name and _value(page, "Event at") == "2026-11-18 11:06:59.500 UTC"
    assert _value(page, "Key of the device") == device.signer
    assert _value(page, "Place") == "46.050129° N, 14.500243° E, ±3 m (WGS 84), 0.5 s before the SOS"
    assert _value(page, "Clock").endswith("set by GPS. Device clock minus GPS time: +0 ms, at 8 positions")


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium (apt-get install chromium)")
def test_the_sheet_prints_on_four_pages(export, tmp_path):
    """Proof, pictures, accesses with verification, and appendix have one page each."""
    page, pdf = _only(export[2], "*-sheet.html"), tmp_path / "sheet.pdf"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command = ["chromium", *flags, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == 4


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "All times on this sheet are UTC"),
        ("Asia/Kolkata", "All times on this sheet are UTC. The event was at 16:36:59 in UTC+05:30"),
    ],
)
def test_the_sheet_states_the_time_zone(device, tmp_path, monkeypatch, zone, text):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        out, _ = _export(device.pem.parent / "clips" / device.name / f"{SOS:06d}", device.pem, tmp_path)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert _value(_only(out, "*-sheet.html").read_text(), "Time zone") == text


def test_the_commands_on_the_sheet_verify_the_clip(export, tmp_path):
    """Run both unchanged: the patrolink command, and the script, which needs only bash and openssl."""
    device, folder, out, _ = export
    page = _only(out, "*-sheet.html").read_text()
    command, script = (
        html.unescape(text) for text in re.findall(r"<pre(?: class=\"script\")?>(.*?)</pre>", page, re.S)
    )
    clips = shutil.copytree(folder.parent.parent, tmp_path / "clips")
    result = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], cwd=clips, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith(f"{device.name} clip 2: valid (")

    def run_script():
        copy = clips / device.name / folder.name
        return subprocess.run(["bash", "-c", script], cwd=copy, capture_output=True, text=True, check=False).stdout

    files = len([line for line in _lines(folder) if "sha256" in line])
    names = sorted(path.name for path in (clips / device.name / folder.name).iterdir())
    output = run_script()
    assert output.count(".pls: OK\n") == files and output.endswith("chain: OK\nVerified OK\n"), output
    assert sorted(path.name for path in (clips / device.name / folder.name).iterdir()) == names
    alterations.flip(clips / device.name / folder.name / f"{_segments(folder)[0]['seg']}.pls", 5000)
    assert run_script().count(".pls: FAILED\n") == 1
    alterations.flip_line("mark")(clips / device.name)
    output = run_script()
    assert "chain: FAILED\n" in output and "Verified OK" not in output, output


def test_an_existing_export_is_not_replaced(export, capsys):
    device, folder, out, _ = export
    contents = {path.name: path.read_bytes() for path in out.iterdir()}
    _export(folder, device.pem, out, code=2)
    assert "exports are never replaced" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents


def test_show_writes_contact_sheets(device, tmp_path, capsys):
    path = str(device.pem.parent / "clips")
    assert main(["clip", "show", path, "--evidence-key", str(device.pem), "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert f"{device.name} clip 2: valid; sos, pictures: 41 in 8.1 s" in output and output.count("-contact.png") == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_a_photo_is_exported_unchanged(device, tmp_path):
    folder = device.pem.parent / "clips" / device.name / f"{PHOTO:06d}"
    out, clips = _export(folder, device.pem, tmp_path / "out")
    (line,) = _segments(folder)
    assert (data := _only(out, "*.jpg").read_bytes()) == segment.read(
        folder / f"{line['seg']}.pls", device.evidence
    ).media_file()
    assert Image.open(io.BytesIO(data)).size == clip_maker.SIZE
    assert clips[0]["pictures"] == 1 and clips[0]["start_time"] == rfc3339(line["start_ms"])
    assert sorted(path.suffix for path in out.iterdir()) == [".html", ".jpg", ".json", ".png", ".sha256"]


def test_a_missing_segment_leaves_a_gap_in_the_film(device, tmp_path):
    folder = _copy(device, tmp_path)
    lines = _segments(folder)
    (folder / f"{lines[1]['seg']}.pls").unlink()
    out, clips = _export(folder, device.pem, tmp_path / "out")
    assert clips[0]["verdict"] == "valid with gaps"
    captured = [time for line in (lines[0], *lines[2:]) for time in _captured_ms(device, line)]
    assert _times_ms(_only(out, "*.mp4")) == [time - captured[0] for time in captured]
    assert _only(out, "*.srt").read_text().count("not shown: the file is missing") == 1
    assert clips[0]["not_shown"] == {f"{lines[1]['seg']}.pls": "the file is missing"}


@pytest.mark.parametrize("codec", CODECS)
def test_a_segment_cut_by_power_loss_plays_up_to_the_cut(codec, tmp_path):
    device = clip_maker.Device("cut-1", tmp_path / "evidence.pem", CODECS[codec])
    device.run(7)
    device.recorder.trigger(clip.TRIGGERS.index("sos"), 5, "", device.now)
    device.run(3.9)
    captured = list(device.camera.times_ms)
    device.boot()
    device.run(1)
    folder = device.write(tmp_path / "clips") / "000001"
    out, clips = _export(folder, device.pem, tmp_path / "out")
    lines = _segments(folder)
    assert clips[0]["verdict"] == "valid with gaps" and not lines[-1]["whole"]
    start, times = lines[0]["start_ms"] - clip_maker.EPOCH_MS, _times_ms(_only(out, "*.mp4"))
    expected = [time - start for time in captured if time >= start]
    last = lines[-1]["start_ms"] - lines[0]["start_ms"]
    assert times == expected[: len(times)]
    assert times[-1] >= expected[-1] - 1100 and times[-1] > last  # the last fragment of H.264 is lost


def test_a_clip_that_cannot_be_shown_does_not_stop_the_export_of_others(device, tmp_path, capsys):
    folder = _copy(device, tmp_path)
    for line in _segments(folder):
        (folder / f"{line['seg']}.pls").unlink()
    out, clips = _export(tmp_path / "clips", device.pem, tmp_path / "out", code=1)
    assert "clip 2: nothing can be shown: the file is missing" in capsys.readouterr().err
    assert [(entry["clip"], entry["verdict"], len(entry.get("files", ()))) for entry in clips] == [
        (1, "valid", 8),
        (SOS, "valid with gaps", 0),
        (PHOTO, "valid", 5),
        (4, "valid", 8),
    ]
    assert not list(out.glob(f"*{SOS:06d}*")) and len(list(out.glob("*.sha256"))) == 3


def test_a_tampered_clip_is_refused_or_stamped_and_altered_segments_are_hidden(device, tmp_path, capsys):
    folder = _copy(device, tmp_path)
    lines = _segments(folder)
    path = folder / f"{lines[1]['seg']}.pls"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    _export(folder, device.pem, tmp_path / "out", code=2)
    assert "is tampered" in capsys.readouterr().err and not (tmp_path / "out").exists()
    out, clips = _export(folder, device.pem, tmp_path / "out", "--anyway", code=1)
    page = _only(out, "*-sheet.html").read_text()
    assert ">TAMPERED<" in page and "Verdict: tampered<" in page
    assert json.loads(_only(out, "*.json").read_text())["verdict"] == clips[0]["verdict"] == "tampered"
    subtitles = _only(out, "*.srt").read_text()
    assert subtitles.count("TAMPERED\n") == subtitles.count(" --> ")
    assert "not shown: the file's SHA-256 is not the one that was recorded" in subtitles
    captured = [time for line in (lines[0], *lines[2:]) for time in _captured_ms(device, line)]
    assert _times_ms(_only(out, "*.mp4")) == [time - captured[0] for time in captured]


def test_the_error_for_a_wrong_evidence_key_names_the_right_one(device, tmp_path, capsys):
    other = evidence_key.create(tmp_path / "other.pem")
    folder = device.pem.parent / "clips" / device.name / f"{SOS:06d}"
    _export(folder, tmp_path / "other.pem", tmp_path / "out", code=2)
    error = capsys.readouterr().err
    assert device.evidence.id.hex() in error and other.id.hex() in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_names_from_a_manifest_are_escaped(tmp_path):
    """Names are not interpreted as markup or as placeholders of the template."""
    device = clip_maker.Device("a<b>{{stamp}}", tmp_path / "evidence.pem")
    device.run(7)
    device.recorder.trigger(clip.TRIGGERS.index("sos"), 5, "", device.now)
    device.clip_store.open_clips.log_access("live_view_start", "<script>alert(1)</script>", device.now, "id", 5)
    device.run(6)
    folder = device.write(tmp_path / "clips") / "000001"
    (tmp_path / "clips" / "signers.toml").write_text(f'[signers]\n"{device.name}" = ["{device.signer}"]\n')
    out, _ = _export(folder, device.pem, tmp_path / "out")
    page = _only(out, "*-sheet.html").read_text()
    assert "<script" not in page and "a<b>" not in page
    assert "a&lt;b&gt;{{stamp}}" in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
