"""Clips exported: ffmpeg, ffprobe, PyAV, Pillow, gpxpy and sha256sum judge what `patrolink clip export` makes."""

import html
import io
import itertools
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
from patrolink.evidence import evidence_key, segment
from patrolink_protocol import clip
from PIL import Image

from tests.simulation import clip_alterations as alterations
from tests.support import clip_maker

pytest.importorskip("cv2", reason="no OpenCV, which the device encodes with: pip install opencv-python-headless")
pytestmark = [
    pytest.mark.skipif(not clip_maker.DEMO_VIDEO.exists(), reason="no build/media/bikes.mp4: run `make media`"),
    pytest.mark.skipif(not shutil.which("ffprobe"), reason="no ffprobe: apt install ffmpeg"),
]
CODECS = {"mjpeg": clip.MJPEG_AVI, "h264": clip.H264_MP4}
SOS, PHOTO = 2, 3  # numbers of clips that clip_maker.make makes


@pytest.fixture(scope="module", params=CODECS)
def device(request, tmp_path_factory):
    work = tmp_path_factory.mktemp(request.param)
    return clip_maker.make(work / "clips", request.param, CODECS[request.param])


@pytest.fixture(scope="module")
def exported(device):
    """The SOS exported: (device, folder of the clip, folder of the export, what --json told)."""
    folder = device.pem.parent / "clips" / device.name / f"{SOS:06d}"
    return device, folder, *_export(folder, device.pem, device.pem.parent / "export")


def _export(place, pem, out, *more, code=0):
    """Export with the command; return (folder, what it told)."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", told)
        arguments = ["clip", "export", str(place), "--evidence-key", str(pem), "--out", str(out), "--json", *more]
        assert main(arguments) == code
    return out, json.loads(told.getvalue() or "[]")


def _copy(device, tmp_path, number=SOS):
    """Copy all clips; return the folder of one of them."""
    shutil.copytree(device.pem.parent / "clips", tmp_path / "clips")
    return tmp_path / "clips" / device.name / f"{number:06d}"


def _lines(folder):
    return [json.loads(line) for line in next(folder.glob("*.plm")).read_text().splitlines()]


def _segments(folder):
    return [said for said in _lines(folder) if "seg" in said and "sha256" in said]


def _only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def _times_ms(path):
    """When ffprobe shows the frames."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    out = subprocess.run([*command, path], capture_output=True, text=True, check=True).stdout
    return [round(float(line.strip(",")) * 1000) for line in out.split()]


def _given_ms(device, said):
    """When the camera gave the pictures of a segment, from the begin of the epoch on."""
    start = said["start_ms"] - clip_maker.EPOCH_MS
    return [given for given in device.camera.given if start <= given][: said["frames"]]


def _ffmpeg(*arguments):
    command = ["ffmpeg", "-v", "error", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert not done.stderr, done.stderr
    return done.stdout


def test_every_picture_has_its_time(exported):
    device, folder, out, told = exported
    said = _segments(folder)
    given = list(itertools.chain.from_iterable(_given_ms(device, it) for it in said))
    assert len(given) == sum(it["frames"] for it in said) > 30
    film = _only(out, "*.mp4")
    assert _times_ms(film) == [it - given[0] for it in given]
    assert told[0]["frames"] == len(given) and told[0]["verdict"] == "valid"
    assert told[0]["start_ms"] == said[0]["start_ms"] == clip_maker.EPOCH_MS + given[0]
    _ffmpeg("-xerror", "-i", film, "-f", "null", "-")


def test_it_plays_everywhere(exported):
    film = _only(exported[2], "*.mp4")
    data = film.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(film)) as it:
        video, sound, text = it.streams
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height) == (640, 272)
        assert (sound.codec_context.name, sound.codec_context.sample_rate) == ("aac", 48000)
        assert text.codec_context.name == "mov_text"
        assert it.metadata["title"] == f"{exported[0].name}, clip 2: SOS"


def test_pictures_are_those_that_were_taken(exported):
    """H.264 bit for bit; JPEG pictures near enough to the film that the camera saw."""
    device, folder, out, told = exported
    with av.open(str(_only(out, "*.mp4"))) as film:
        packets = [bytes(it) for it in film.demux(video=0) if it.size]
        film.seek(0)
        shown = [it.to_ndarray(format="rgb24") for it in film.decode(video=0)]
    if device.codec == clip.H264_MP4:
        assert told[0]["copied"]
        there = []
        for said in _segments(folder):
            media = segment.read(folder / f"{said['seg']}.pls", device.evidence).media_file()
            with av.open(io.BytesIO(media)) as film:
                there += [bytes(it) for it in film.demux(video=0) if it.size]
        assert packets == there
    first = device.camera.given.index(_given_ms(device, _segments(folder)[0])[0])
    film = clip_maker.pictures()
    for n, picture in enumerate(shown):
        seen = film[(first + n) % len(film)][0][:, :, ::-1].astype(float)
        assert 10 * np.log10(255**2 / np.mean((picture - seen) ** 2)) > 30, n


def test_sound_begins_with_the_event_and_in_its_place(exported):
    device, folder, out, _ = exported
    with av.open(str(_only(out, "*.mp4"))) as film:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
        parts = [part.to_ndarray()[0] for frame in film.decode(audio=0) for part in resampler.resample(frame)]
    heard = np.concatenate(parts).astype(float)
    said = _segments(folder)
    silent_ms = said[2]["start_ms"] - said[0]["start_ms"]  # the trigger ended the segment before
    begins = int(np.argmax(np.abs(heard) > 2000)) / 8
    assert abs(begins - silent_ms) < 100
    tail = heard[-12000:-4000]
    assert np.argmax(np.abs(np.fft.rfft(tail))) * 8000 / len(tail) == pytest.approx(440, abs=2)
    assert abs(len(heard) / 8 - (said[-1]["start_ms"] + said[-1]["ms"] - said[0]["start_ms"])) < 300


def test_subtitles_tell_when_and_where(exported):
    _, folder, out, _ = exported
    beside = _only(out, "*.srt").read_text()
    within = re.sub(r"</?font[^>]*>", "", _ffmpeg("-i", _only(out, "*.mp4"), "-map", "0:s", "-f", "srt", "-").decode())
    assert within.split() == beside.split()
    blocks = beside.strip().split("\n\n")
    assert blocks[0].split("\n")[1:3] == ["00:00:00,000 --> 00:00:01,000", "2026-11-18 11:06:55.390 UTC"]
    assert len(blocks) == 9 and blocks[-1].split("\n")[1] == "00:00:08,000 --> 00:00:08,110"
    assert re.fullmatch(r"46\.0501\d\d 14\.5002\d\d  ±3 m  5\.0 km/h", blocks[4].split("\n")[3])


def test_track(exported):
    device, folder, out, told = exported
    names = [f"{said['seg']}.pls" for said in _segments(folder)]
    fixes = [fix for name in names for fix in segment.read(folder / name, device.evidence).fixes]
    (track,) = gpxpy.parse(_only(out, "*.gpx").read_text()).tracks
    assert [(it.latitude, it.longitude) for it in track.segments[0].points] == [
        (it.lat_deg, it.lon_deg) for it in fixes
    ]
    points = json.loads(_only(out, "*.geojson").read_text())["features"]
    assert points[0]["geometry"]["type"] == "LineString" and len(points) == 1 + len(fixes) == 1 + told[0]["positions"]


def _reddish(path):
    """Pixels of the red that an urgent event is framed with."""
    return int(np.all(np.asarray(Image.open(path).convert("RGB")) == (0xCF, 0x22, 0x2E), axis=2).sum())


def test_the_contact_sheet_frames_the_sos_only(device, exported, tmp_path):
    assert _reddish(_only(exported[2], "*-contact.png")) > 4 * (360 + 153)
    _export(device.pem.parent / "clips" / device.name / "000001", device.pem, tmp_path)
    assert _reddish(_only(tmp_path, "*-contact.png")) == 0


def test_the_sheet_stands_alone_and_the_hashes_hold(exported):
    device, folder, out, told = exported
    page = _only(out, "*-sheet.html").read_text()
    assert "Verdict: valid<" in page and ">TAMPERED<" not in page and "{{" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|<script|https?://""", page)
    for line in _lines(folder):
        for value in (line.get("sha256"), line.get("sig"), line.get("signer"), line.get("chain")):
            assert value is None or value in page
    done = subprocess.run(
        ["sha256sum", "-c", _only(out, "*.sha256").name], cwd=out, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(": OK\n") == len(list(out.iterdir())) - 1 == len(told[0]["files"]) - 1


def _told(page, about):
    """Return what stands beside a word in a sheet's tables."""
    return html.unescape(re.search(f"<th>{about}</th><td>(?:<code>)?([^<]*)<", page)[1])


def test_the_first_page_is_the_proof_and_hashes_are_its_appendix(exported):
    device, folder, out, _ = exported
    page = _only(out, "*-sheet.html").read_text()
    first, appendix = page.index('<h2 class="page">Pictures'), page.index("Appendix A")
    for told in ("Verdict: valid", "Signed by", "Place", "Event at", "<svg", "First picture after the event"):
        assert page.index(told) < first, told
    assert all(page.index(said["sha256"]) > appendix for said in _segments(folder))
    assert _told(page, "Device") == device.name and _told(page, "Event at") == "2026-11-18 11:06:59.500 UTC"
    assert _told(page, "Key of the device") == device.signer
    assert _told(page, "Place") == "46.050129° N, 14.500243° E, ±3 m (WGS 84), 0.5 s before the SOS"
    assert _told(page, "Clock").endswith("set by GPS. Device clock minus GPS time: +0 ms, at 8 positions")


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium (apt-get install chromium)")
def test_it_prints_on_four_pages(exported, tmp_path):
    """The proof, the pictures, what others did and how to verify it, the appendix: none of them spills over."""
    page, pdf = _only(exported[2], "*-sheet.html"), tmp_path / "sheet.pdf"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command = ["chromium", *flags, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == 4


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("UTC", "All times on this sheet are UTC"),
        ("Asia/Kolkata", "All times on this sheet are UTC. The event was at 16:36:59 in UTC+05:30"),
    ],
)
def test_the_time_zone_is_told(device, tmp_path, monkeypatch, zone, told):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        out, _ = _export(device.pem.parent / "clips" / device.name / f"{SOS:06d}", device.pem, tmp_path)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert _told(_only(out, "*-sheet.html").read_text(), "Time zone") == told


def test_anybody_can_verify_again_with_what_the_sheet_says(exported, tmp_path):
    """Its two recipes, word for word: that of patrolink, and that of bash and openssl, which knows nothing of us."""
    device, folder, out, _ = exported
    page = _only(out, "*-sheet.html").read_text()
    command, script = (html.unescape(it) for it in re.findall(r"<pre(?: class=\"script\")?>(.*?)</pre>", page, re.S))
    clips = shutil.copytree(folder.parent.parent, tmp_path / "clips")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], cwd=clips, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{device.name} clip 2: valid (")

    def openssl():
        copy = clips / device.name / folder.name
        return subprocess.run(["bash", "-c", script], cwd=copy, capture_output=True, text=True, check=False).stdout

    files = len([said for said in _lines(folder) if "sha256" in said])
    there = sorted(path.name for path in (clips / device.name / folder.name).iterdir())
    told = openssl()
    assert told.count(".pls: OK\n") == files and told.endswith("chain: OK\nVerified OK\n"), told
    assert sorted(path.name for path in (clips / device.name / folder.name).iterdir()) == there
    alterations.flip(clips / device.name / folder.name / f"{_segments(folder)[0]['seg']}.pls", 5000)
    assert openssl().count(".pls: FAILED\n") == 1
    alterations.flip_line("mark")(clips / device.name)
    told = openssl()
    assert "chain: FAILED\n" in told and "Verified OK" not in told, told


def test_an_export_is_not_replaced(exported, capsys):
    device, folder, out, _ = exported
    before = {it.name: it.read_bytes() for it in out.iterdir()}
    _export(folder, device.pem, out, code=2)
    assert "exports are never replaced" in capsys.readouterr().err
    assert {it.name: it.read_bytes() for it in out.iterdir()} == before


def test_show(device, tmp_path, capsys):
    place = str(device.pem.parent / "clips")
    assert main(["clip", "show", place, "--evidence-key", str(device.pem), "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"{device.name} clip 2: valid; sos, pictures: 41 in 8.1 s" in told and told.count("-contact.png") == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_a_photo_is_the_picture_of_the_device(device, tmp_path):
    folder = device.pem.parent / "clips" / device.name / f"{PHOTO:06d}"
    out, told = _export(folder, device.pem, tmp_path / "out")
    (said,) = _segments(folder)
    data = _only(out, "*.jpg").read_bytes()
    assert data == segment.read(folder / f"{said['seg']}.pls", device.evidence).media_file()
    assert Image.open(io.BytesIO(data)).size == (640, 272)
    assert told[0]["frames"] == 1 and told[0]["start_ms"] == said["start_ms"]
    assert sorted(it.suffix for it in out.iterdir()) == [".html", ".jpg", ".json", ".png", ".sha256"]


def test_a_gap_stays_a_gap(device, tmp_path):
    folder = _copy(device, tmp_path)
    said = _segments(folder)
    (folder / f"{said[1]['seg']}.pls").unlink()
    out, told = _export(folder, device.pem, tmp_path / "out")
    assert told[0]["verdict"] == "valid with gaps"
    given = [time for it in (said[0], *said[2:]) for time in _given_ms(device, it)]
    assert _times_ms(_only(out, "*.mp4")) == [it - given[0] for it in given]
    assert _only(out, "*.srt").read_text().count("not shown: the file is missing") == 1
    assert told[0]["not_shown"] == {f"{said[1]['seg']}.pls": "the file is missing"}


@pytest.mark.parametrize("codec", CODECS)
def test_a_segment_that_the_power_cut_plays_as_far_as_it_goes(codec, tmp_path):
    device = clip_maker.Device("cut-1", tmp_path / "evidence.pem", CODECS[codec])
    device.run(7)
    device.recorder.trigger(clip.TRIGGERS.index("sos"), 5, "", device.now)
    device.run(3.3)
    given = list(device.camera.given)
    device.boot()
    device.run(1)
    folder = device.write(tmp_path / "clips") / "000001"
    out, told = _export(folder, device.pem, tmp_path / "out")
    said = _segments(folder)
    assert told[0]["verdict"] == "valid with gaps" and not said[-1]["whole"]
    start = said[0]["start_ms"] - clip_maker.EPOCH_MS
    expected = [it - start for it in given if it >= start]
    times = _times_ms(_only(out, "*.mp4"))
    last = said[-1]["start_ms"] - said[0]["start_ms"]
    assert times == expected[: len(times)]
    assert times[-1] >= expected[-1] - 1100 and times[-1] > last  # of H.264 the last fragment is lost


def test_of_many_clips_one_that_cannot_be_shown_spoils_no_other(device, tmp_path, capsys):
    folder = _copy(device, tmp_path)
    for said in _segments(folder):
        (folder / f"{said['seg']}.pls").unlink()
    out, told = _export(tmp_path / "clips", device.pem, tmp_path / "out", code=1)
    assert "clip 2: nothing can be shown: the file is missing" in capsys.readouterr().err
    assert [(it["clip"], it["verdict"], len(it.get("files", ()))) for it in told] == [
        (1, "valid", 8),
        (SOS, "valid with gaps", 0),
        (PHOTO, "valid", 5),
        (4, "valid", 8),
    ]
    assert not list(out.glob(f"*{SOS:06d}*")) and len(list(out.glob("*.sha256"))) == 3


def test_what_is_tampered_with_is_refused_or_stamped_and_never_shown(device, tmp_path, capsys):
    folder = _copy(device, tmp_path)
    said = _segments(folder)
    path = folder / f"{said[1]['seg']}.pls"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    _export(folder, device.pem, tmp_path / "out", code=2)
    assert "is tampered" in capsys.readouterr().err and not (tmp_path / "out").exists()
    out, told = _export(folder, device.pem, tmp_path / "out", "--anyway", code=1)
    page = _only(out, "*-sheet.html").read_text()
    assert ">TAMPERED<" in page and "Verdict: tampered<" in page
    assert json.loads(_only(out, "*.json").read_text())["verdict"] == told[0]["verdict"] == "tampered"
    subtitles = _only(out, "*.srt").read_text()
    assert subtitles.count("TAMPERED\n") == subtitles.count(" --> ")
    assert "not shown: the file's SHA-256 is not the one that was recorded" in subtitles
    given = [time for it in (said[0], *said[2:]) for time in _given_ms(device, it)]
    assert _times_ms(_only(out, "*.mp4")) == [it - given[0] for it in given]


def test_a_wrong_evidence_key_says_which_one_is_right(device, tmp_path, capsys):
    other = evidence_key.create(tmp_path / "other.pem")
    folder = device.pem.parent / "clips" / device.name / f"{SOS:06d}"
    _export(folder, tmp_path / "other.pem", tmp_path / "out", code=2)
    told = capsys.readouterr().err
    assert device.evidence.id.hex() in told and other.id.hex() in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_what_a_device_says_is_only_text(tmp_path):
    """A name out of a manifest is no markup, and no place of the page."""
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
