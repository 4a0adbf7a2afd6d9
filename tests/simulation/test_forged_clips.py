"""Clips of a hostile device and tampered folders: findings, bounded resources, no injection."""

import io
import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from patrolink.cli import main
from patrolink.evidence import contact_sheet, export, manifest, segment, segment_checks
from patrolink.evidence.timeline import ClipEvent
from patrolink_protocol import clip
from PIL import Image

from tests.simulation.forging_device import EPOCH_MS, ForgingDevice, chunk, end, fix, jpeg, record

FAR_MS = 0xFFFFFFFF  # 49 days
ONE_PICTURE = chunk(0, jpeg()) + end(1)


def run(device, folder, verb, *more):
    """Run a clip command in this process and return its exit code. The verb is the name of the output folder."""
    options = [
        "--evidence-key",
        str(device.pem),
        *(["--out", str(device.clips.parent / verb)] if verb != "verify" else []),
    ]
    return main(["clip", verb, str(folder), *options, *more])


def film(device):
    """Return the exported film."""
    (path,) = (device.clips.parent / "export").glob("*.mp4")
    return path


def test_a_picture_that_claims_a_huge_size_is_skipped(tmp_path, capsys):
    device = ForgingDevice(tmp_path / "clips")
    folder = device.write([chunk(0, jpeg(claimed=(65_000, 65_000))) + chunk(100, jpeg()) + end(2)], frames=2)
    assert run(device, folder, "export") == 0
    assert "pictures: 1 in" in capsys.readouterr().out


def test_the_size_and_number_of_pictures_are_limited(tmp_path, monkeypatch, capsys):
    def mp4(width, height, frames):
        out = io.BytesIO()
        with av.open(out, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
            container.mux(stream.encode(None))
        return record(clip.RECORD_MEDIA, 0, out.getvalue())

    device = ForgingDevice(tmp_path / "huge" / "clips", codec=clip.H264_MP4)
    assert run(device, device.write([mp4(8192, 2112, 1) + end(1)]), "export") == 2
    assert "no picture in the clip can be decoded" in capsys.readouterr().err
    monkeypatch.setattr(segment, "RECORDS_MAX", 20)
    device = ForgingDevice(tmp_path / "many" / "clips", codec=clip.H264_MP4)
    assert run(device, device.write([mp4(64, 48, 50) + end(50)], frames=50), "export") == 0
    assert "pictures: 20 in" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(0, 0), (65_535, 65_535), (1, 1)])
def test_the_size_in_a_header_is_not_used(tmp_path, size):
    device = ForgingDevice(tmp_path / "clips", size=size)
    assert run(device, device.write([ONE_PICTURE]), "export") == 0
    with av.open(str(film(device))) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (64, 48)


@pytest.mark.parametrize("claim", ["manifest", "end", "sound", "gap"])
def test_a_claimed_duration_of_days_is_limited(tmp_path, claim):
    """A claim of 49 days must not make a film of silence and subtitles, or allocate memory for it."""
    device = ForgingDevice(tmp_path / "clips", flags=clip.FLAG_SOUND)
    sound = chunk(0, bytes(480), b"01wb")
    streams, values = {
        "manifest": ([ONE_PICTURE] * 3, {"ms": FAR_MS}),
        "end": ([chunk(0, jpeg()) + end(1, FAR_MS)] * 3, {}),
        "sound": ([chunk(0, jpeg()) + sound + chunk(FAR_MS - 1, jpeg()) + chunk(FAR_MS - 1, bytes(480), b"01wb")], {}),
        "gap": ([ONE_PICTURE] * 30, {"ms": 3_000_000}),
    }[claim]
    assert run(device, device.write(streams, **values), "export") == 0
    assert film(device).stat().st_size < 10 << 20
    lines = film(device).with_suffix(".srt").read_text().count(" --> ")
    assert lines <= 4 * 3600 + 2, lines


@pytest.mark.parametrize(("back_ms", "second_ms"), [(0, 2000), (1500, 2800)])
def test_sound_that_continues_into_the_next_segment_moves_no_picture(tmp_path, back_ms, second_ms):
    """The first picture is late: sound until then is in the previous segment, except after a clock step."""
    tone = bytes(0xAA if n % 8 < 4 else 0x2A for n in range(800))
    sound = b"".join(chunk(t, tone, b"01wb") for t in range(0, 2800, 100))
    late = chunk(0, bytes((0xD5,)) * 6400, b"01wb") + b"".join(chunk(t, tone, b"01wb") for t in range(800, 2000, 100))
    device = ForgingDevice(tmp_path / "clips", flags=clip.FLAG_SOUND)
    first = chunk(0, jpeg()) + chunk(1900 - back_ms // 50, jpeg()) + sound + end(2, 2800)
    folder = device.write([first, chunk(0, jpeg()) + late + end(1)], ms=2800)
    if back_ms:
        lines = (folder / "000001.plm").read_text().replace(str(EPOCH_MS + 2000), str(EPOCH_MS + 2000 - back_ms))
        (folder / "000001.plm").write_text(lines)  # breaks the seal, so that --anyway is needed
    assert run(device, folder, "export", "--anyway") == (1 if back_ms else 0)
    with av.open(str(film(device))) as container:
        times = [round(packet.pts * packet.time_base * 1000) for packet in container.demux(video=0) if packet.size]
        assert times[-1] == second_ms, times
        container.seek(0)
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.abs(samples[: 48 * (second_ms + 1900)]).reshape(-1, 480).max(axis=1) > 0.05
    # The tone has no gap, except for the silence of the second segment after a clock step.
    assert (~loud).sum() <= (85 if back_ms else 8), (~loud).nonzero()


def test_the_records_of_a_segment_are_limited(tmp_path, capsys):
    device = ForgingDevice(tmp_path / "clips")
    folder = device.write([chunk(0, jpeg()) + b"".join(fix(i, 46, 14) for i in range(70_000)) + end(1)])
    assert run(device, folder, "verify") == 0
    assert "the segment has more than 32768 records" in capsys.readouterr().err


def test_the_pictures_of_a_contact_sheet_are_limited(tmp_path):
    marks = [
        {"mark": "sos", "event": i, "time_ms": EPOCH_MS, "seg": "000001-000001", "at_ms": i * 10} for i in range(200)
    ]
    sheet = contact_sheet.ContactSheet(2000, [ClipEvent(mark["at_ms"], "sos") for mark in marks])
    for n in range(200):
        sheet.add(n * 10, None, Image.new("RGB", (64, 48)).copy)
    assert contact_sheet.PICTURES_MAX <= len(sheet.thumbnails) <= 2 * contact_sheet.PICTURES_MAX
    device = ForgingDevice(tmp_path / "clips")
    folder = device.write([b"".join(chunk(i * 10, jpeg()) for i in range(200)) + end(200)], marks, frames=200)
    assert run(device, folder, "export") == 0


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path, capsys):
    name = "x\x1b[2J\x07\u202e\nlinux-1 clip 9: valid"
    device = ForgingDevice(tmp_path / "clips", name)
    folder = device.write([ONE_PICTURE])
    (device.clips / "signers.toml").write_text("[signers]\n")  # causes a finding that contains the device's name
    for verb in ("verify", "show", "export"):
        run(device, folder, verb, *(["--anyway"] if verb != "verify" else []))
    assert main(["clip", "list", str(device.clips)]) == 0
    output = "".join(capsys.readouterr())
    assert "\x1b" not in output and "\x07" not in output and "\u202e" not in output
    assert not any(line.startswith("linux-1") for line in output.splitlines())
    assert "x\\x1b[2J\\x07\\u202e\\nlinux-1" in output


@pytest.mark.parametrize("name", ["-rf", ".hidden", "警察 1", "é" * 64, "a'b\"c$(touch x)"])
def test_any_device_name_gives_valid_file_names(tmp_path, name):
    device = ForgingDevice(tmp_path / "clips", name)
    assert run(device, device.write([ONE_PICTURE]), "export") == 0
    names = [path.name for path in (tmp_path / "export").iterdir()]
    assert len(names) == 6 and all(re.fullmatch(r"[\w][\w.-]*", name) for name in names), names
    checksums = next((tmp_path / "export").glob("*.sha256")).name
    subprocess.run(["sha256sum", "-c", "--quiet", checksums], cwd=tmp_path / "export", check=True)


def test_the_sheet_prints_the_manifest_that_was_verified(tmp_path):
    """A link or a folder named like a manifest is not used."""
    device = ForgingDevice(tmp_path / "clips")
    folder = device.write([ONE_PICTURE])
    (tmp_path / "other").write_text('{"clip":1,"a":"forged"}\n')
    (folder / "000000.plm").symlink_to(tmp_path / "other")
    (folder / "0.plm").mkdir()
    assert run(device, folder, "export") == 0
    (sheet,) = (tmp_path / "export").glob("*.html")
    assert "forged" not in sheet.read_text() and device.evidence.id.hex() in sheet.read_text()


def test_a_signers_file_that_is_not_regular_is_not_read(tmp_path, capsys):
    device = ForgingDevice(tmp_path / "clips")
    folder = device.write([ONE_PICTURE])
    for create in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir):
        (device.clips / "signers.toml").unlink()
        create(device.clips / "signers.toml")
        assert run(device, folder, "verify") == 2
        assert "signers.toml: not a regular file" in capsys.readouterr().err


def test_files_that_change_after_verification_are_not_shown(tmp_path, monkeypatch):
    device = ForgingDevice(tmp_path / "clips")
    folder = device.write([ONE_PICTURE, ONE_PICTURE])
    check_exportable = export.check_exportable

    def check_then_change(result, anyway):
        check_exportable(result, anyway)
        other = device.segment(chunk(0, jpeg(32, 32)) + end(1), 2, EPOCH_MS + 2000)
        (folder / "000001-000002.pls").write_bytes(other)

    with monkeypatch.context() as patch:
        patch.setattr(export, "check_exportable", check_then_change)
        assert run(device, folder, "export") == 0
    facts = json.loads(next((tmp_path / "export").glob("*.json")).read_text())
    assert facts["pictures"] == 1
    assert facts["not_shown"] == {"000001-000002.pls": "the file's SHA-256 is not the one that was recorded"}
    assert run(device, folder, "verify") == 1
    decrypted, findings = segment_checks.check_segments(
        folder, manifest.load(folder / "000001.plm"), device.evidence, set()
    )
    assert decrypted and [(f.grade, f.where) for f in findings] == [("tampered", "000001-000002.pls")]


def test_random_records_are_exported_or_refused_with_an_error(tmp_path, capsys):
    """Random streams with valid hashes and seals."""
    seed = 20_261_127
    rng = random.Random(seed)
    for n in range(40):
        records = []
        for _ in range(rng.randrange(1, 12)):
            kind, time_ms = rng.randrange(7), rng.choice((0, 500, 2000, 70_000, FAR_MS))
            picture, sound = chunk(0, jpeg())[8:], chunk(0, bytes(480), b"01wb")[8:]
            payload = rng.choice((b"", rng.randbytes(35), picture, sound, rng.randbytes(9)))
            records.append(record(kind, time_ms, payload))
        at = rng.randrange(12)
        stream = b"".join([*records[:at], chunk(100, jpeg()), *records[at:]])
        codec = rng.choice((clip.MJPEG_AVI, clip.H264_MP4, clip.JPEG))
        work = tmp_path / str(n)
        device = ForgingDevice(work / "clips", codec=codec, flags=rng.randrange(4))
        code = run(device, device.write([stream, ONE_PICTURE] if rng.randrange(2) else [stream]), "export")
        output = capsys.readouterr()
        assert code in (0, 2) and "Traceback" not in output.err, (seed, n, output)
        assert bool(list((work / "export").glob("*.sha256"))) == (code == 0), (seed, n, output)
        assert code == 0 or not (work / "export").exists() or not list((work / "export").iterdir()), (seed, n)
        shutil.rmtree(work)


def test_text_from_a_manifest_is_escaped_in_the_sheet(tmp_path):
    injected = '"><img src=x onerror=alert(1)>&{{stamp}}'
    device = ForgingDevice(tmp_path / "clips", injected.replace("/", "_"))
    lines = [
        {"access": "thinned", "who": injected, "time_ms": EPOCH_MS, "clip": injected, "segs": [injected]},
        {"access": "snapshot", "who": "<b>\u202e", "time_ms": EPOCH_MS, "text": injected},
    ]
    folder = device.write([ONE_PICTURE], lines)
    assert run(device, folder, "export", "--by", injected) == 0
    (sheet,) = (tmp_path / "export").glob("*.html")
    page = sheet.read_text()
    assert "<img src=x" not in page and "<b>" not in page.replace("<b>Verdict", "").replace("<b></b>", "")
