"""A device that lies under its own signature, and a folder that was tampered with: told, bounded, and no harm done."""

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

from tests.simulation.lying_device import EPOCH_MS, Liar, chunk, end, fix, jpeg, record

FAR_MS = 0xFFFFFFFF
ONE = chunk(0, jpeg()) + end(1)


def run(liar, folder, what, *more):
    """Run a command in this process; return its exit code. An export goes to a folder beside the clips."""
    place = ["--evidence-key", str(liar.pem), *(["--out", str(liar.clips.parent / what)] if what != "verify" else [])]
    return main(["clip", what, str(folder), *place, *more])


def film(liar):
    (path,) = (liar.clips.parent / "export").glob("*.mp4")
    return path


def test_a_picture_that_claims_to_be_huge_is_left_out(tmp_path, capsys):
    liar = Liar(tmp_path / "clips")
    folder = liar.write([chunk(0, jpeg(claimed=(65_000, 65_000))) + chunk(100, jpeg()) + end(2)], frames=2)
    assert run(liar, folder, "export") == 0
    assert "pictures: 1 in" in capsys.readouterr().out


def test_a_film_that_is_huge_or_of_tiny_pictures_without_end_is_bounded(tmp_path, monkeypatch, capsys):
    def mp4(width, height, frames):
        out = io.BytesIO()
        with av.open(out, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as it:
            stream = it.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(frames):
                it.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
            it.mux(stream.encode(None))
        return record(clip.RECORD_MEDIA, 0, out.getvalue())

    liar = Liar(tmp_path / "huge" / "clips", codec=clip.H264_MP4)
    assert run(liar, liar.write([mp4(8192, 2112, 1) + end(1)]), "export") == 2
    assert "no picture in the clip can be decoded" in capsys.readouterr().err
    monkeypatch.setattr(segment, "RECORDS_MAX", 20)
    liar = Liar(tmp_path / "many" / "clips", codec=clip.H264_MP4)
    assert run(liar, liar.write([mp4(64, 48, 50) + end(50)], frames=50), "export") == 0
    assert "pictures: 20 in" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(0, 0), (65_535, 65_535), (1, 1)])
def test_a_header_decides_no_size(tmp_path, size):
    liar = Liar(tmp_path / "clips", size=size)
    assert run(liar, liar.write([ONE]), "export") == 0
    with av.open(str(film(liar))) as it:
        assert (it.streams.video[0].width, it.streams.video[0].height) == (64, 48)


@pytest.mark.parametrize("lie", ["manifest", "end", "sound", "gap"])
def test_a_clip_without_end_is_none(tmp_path, lie, capsys):
    """49 days are claimed: no film of silence and subtitles comes of it, and no memory is asked for them."""
    liar = Liar(tmp_path / "clips", flags=clip.FLAG_SOUND)
    sound = chunk(0, bytes(480), b"01wb")
    streams, said = {
        "manifest": ([ONE] * 3, {"ms": FAR_MS}),
        "end": ([chunk(0, jpeg()) + end(1, FAR_MS)] * 3, {}),
        "sound": ([chunk(0, jpeg()) + sound + chunk(FAR_MS - 1, jpeg()) + chunk(FAR_MS - 1, bytes(480), b"01wb")], {}),
        "gap": ([ONE] * 30, {"ms": 3_000_000}),
    }[lie]
    assert run(liar, liar.write(streams, **said), "export") == 0
    assert film(liar).stat().st_size < 10 << 20
    lines = film(liar).with_suffix(".srt").read_text().count(" --> ")
    assert lines <= 4 * 3600 + 2, lines


@pytest.mark.parametrize(("back_ms", "second_ms"), [(0, 2000), (1500, 2800)])
def test_sound_that_goes_on_into_the_next_segment_moves_no_picture(tmp_path, back_ms, second_ms):
    """A picture that came late: what was heard meanwhile is in the segment before. A clock that was set is no such."""
    tone = bytes(0xAA if n % 8 < 4 else 0x2A for n in range(800))
    heard = b"".join(chunk(t, tone, b"01wb") for t in range(0, 2800, 100))
    late = chunk(0, bytes((0xD5,)) * 6400, b"01wb") + b"".join(chunk(t, tone, b"01wb") for t in range(800, 2000, 100))
    liar = Liar(tmp_path / "clips", flags=clip.FLAG_SOUND)
    first = chunk(0, jpeg()) + chunk(1900 - back_ms // 50, jpeg()) + heard + end(2, 2800)
    folder = liar.write([first, chunk(0, jpeg()) + late + end(1)], ms=2800)
    if back_ms:
        lines = (folder / "000001.plm").read_text().replace(str(EPOCH_MS + 2000), str(EPOCH_MS + 2000 - back_ms))
        (folder / "000001.plm").write_text(lines)  # no longer what was sealed: --anyway
    assert run(liar, folder, "export", "--anyway") == (1 if back_ms else 0)
    with av.open(str(film(liar))) as it:
        times = [round(packet.pts * packet.time_base * 1000) for packet in it.demux(video=0) if packet.size]
        assert times[-1] == second_ms, times
        it.seek(0)
        samples = np.concatenate([frame.to_ndarray()[0] for frame in it.decode(audio=0)])
    loud = np.abs(samples[: 48 * (second_ms + 1900)]).reshape(-1, 480).max(axis=1) > 0.05
    # Heard all the time, but where the clock's being set leaves the second segment its own silence.
    assert (~loud).sum() <= (85 if back_ms else 8), (~loud).nonzero()


def test_no_more_records_than_a_segment_has(tmp_path, capsys):
    liar = Liar(tmp_path / "clips")
    folder = liar.write([chunk(0, jpeg()) + b"".join(fix(i, 46, 14) for i in range(70_000)) + end(1)])
    assert run(liar, folder, "verify") == 0
    assert "the segment has more than 32768 records" in capsys.readouterr().err


def test_a_contact_sheet_has_few_pictures_whatever_the_events(tmp_path):
    marks = [
        {"mark": "sos", "event": i, "time_ms": EPOCH_MS, "seg": "000001-000001", "at_ms": i * 10} for i in range(200)
    ]
    taken = contact_sheet.ContactSheet(2000, [ClipEvent(it["at_ms"], "sos") for it in marks])
    for n in range(200):
        taken.add(n * 10, None, Image.new("RGB", (64, 48)).copy)
    assert contact_sheet.PICTURES_MAX <= len(taken.thumbnails) <= 2 * contact_sheet.PICTURES_MAX
    liar = Liar(tmp_path / "clips")
    folder = liar.write([b"".join(chunk(i * 10, jpeg()) for i in range(200)) + end(200)], marks, frames=200)
    assert run(liar, folder, "export") == 0


def test_names_do_not_speak_to_the_terminal(tmp_path, capsys):
    name = "x\x1b[2J\x07\u202e\nlinux-1 clip 9: valid"
    liar = Liar(tmp_path / "clips", name)
    folder = liar.write([ONE])
    (liar.clips / "signers.toml").write_text("[signers]\n")  # the finding names the device
    for what in ("verify", "show", "export"):
        run(liar, folder, what, *(["--anyway"] if what != "verify" else []))
    assert main(["clip", "list", str(liar.clips)]) == 0
    told = "".join(capsys.readouterr())
    assert "\x1b" not in told and "\x07" not in told and "\u202e" not in told
    assert not any(line.startswith("linux-1") for line in told.splitlines())
    assert "x\\x1b[2J\\x07\\u202e\\nlinux-1" in told


@pytest.mark.parametrize("name", ["-rf", ".hidden", "警察 1", "é" * 64, "a'b\"c$(touch x)"])
def test_any_name_of_a_folder_makes_names_of_files(tmp_path, name):
    liar = Liar(tmp_path / "clips", name)
    assert run(liar, liar.write([ONE]), "export") == 0
    names = [path.name for path in (tmp_path / "export").iterdir()]
    assert len(names) == 6 and all(re.fullmatch(r"[\w][\w.-]*", it) for it in names), names
    listed = next((tmp_path / "export").glob("*.sha256")).name
    subprocess.run(["sha256sum", "-c", "--quiet", listed], cwd=tmp_path / "export", check=True)


def test_the_sheet_prints_the_manifest_that_was_verified(tmp_path):
    """A link or a folder of a manifest's name is not one."""
    liar = Liar(tmp_path / "clips")
    folder = liar.write([ONE])
    (tmp_path / "other").write_text('{"clip":1,"a":"forged"}\n')
    (folder / "000000.plm").symlink_to(tmp_path / "other")
    (folder / "0.plm").mkdir()
    assert run(liar, folder, "export") == 0
    (sheet,) = (tmp_path / "export").glob("*.html")
    assert "forged" not in sheet.read_text() and liar.evidence.id.hex() in sheet.read_text()


def test_keys_that_come_without_end_are_not_read(tmp_path, capsys):
    liar = Liar(tmp_path / "clips")
    folder = liar.write([ONE])
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir):
        (liar.clips / "signers.toml").unlink()
        make(liar.clips / "signers.toml")
        assert run(liar, folder, "verify") == 2
        assert "signers.toml: not a regular file" in capsys.readouterr().err


def test_what_is_shown_is_what_was_verified(tmp_path, monkeypatch):
    """Bytes that change after the verdict are not shown under it."""
    liar = Liar(tmp_path / "clips")
    folder = liar.write([ONE, ONE])
    begun = export.check_exportable

    def change(found, anyway):
        begun(found, anyway)
        other = liar.segment(chunk(0, jpeg(32, 32)) + end(1), 2, EPOCH_MS + 2000)
        (folder / "000001-000002.pls").write_bytes(other)

    with monkeypatch.context() as patch:
        patch.setattr(export, "check_exportable", change)
        assert run(liar, folder, "export") == 0
    told = json.loads(next((tmp_path / "export").glob("*.json")).read_text())
    assert told["frames"] == 1
    assert told["not_shown"] == {"000001-000002.pls": "the file's SHA-256 is not the one that was recorded"}
    assert run(liar, folder, "verify") == 1
    found, findings = segment_checks.check_segments(folder, manifest.load(folder / "000001.plm"), liar.evidence, set())
    assert found and [(f.grade, f.where) for f in findings] == [("tampered", "000001-000002.pls")]


def test_any_records_are_shown_or_refused_in_words(tmp_path, capsys):
    """Random streams under right hashes and seals."""
    seed = 20_261_127
    rng = random.Random(seed)
    for n in range(40):
        records = []
        for _ in range(rng.randrange(1, 12)):
            kind, time_ms = rng.randrange(7), rng.choice((0, 500, 2000, 70_000, FAR_MS))
            picture, sound = chunk(0, jpeg())[8:], chunk(0, bytes(480), b"01wb")[8:]
            rest = rng.choice((b"", rng.randbytes(35), picture, sound, rng.randbytes(9)))
            records.append(record(kind, time_ms, rest))
        at = rng.randrange(12)
        stream = b"".join([*records[:at], chunk(100, jpeg()), *records[at:]])
        codec = rng.choice((clip.MJPEG_AVI, clip.H264_MP4, clip.JPEG))
        work = tmp_path / str(n)
        liar = Liar(work / "clips", codec=codec, flags=rng.randrange(4))
        code = run(liar, liar.write([stream, ONE] if rng.randrange(2) else [stream]), "export")
        told = capsys.readouterr()
        assert code in (0, 2) and "Traceback" not in told.err, (seed, n, told)
        assert bool(list((work / "export").glob("*.sha256"))) == (code == 0), (seed, n, told)
        assert code == 0 or not (work / "export").exists() or not list((work / "export").iterdir()), (seed, n)
        shutil.rmtree(work)


def test_forged_findings_reach_no_markup(tmp_path):
    """What a manifest says stands in the sheet as text, wherever it stands."""
    evil = '"><img src=x onerror=alert(1)>&{{stamp}}'
    liar = Liar(tmp_path / "clips", evil.replace("/", "_"))
    lines = [
        {"access": "thinned", "who": evil, "time_ms": EPOCH_MS, "clip": evil, "segs": [evil]},
        {"access": "snapshot", "who": "<b>\u202e", "time_ms": EPOCH_MS, "text": evil},
    ]
    folder = liar.write([ONE], lines)
    assert run(liar, folder, "export", "--by", evil) == 0
    (sheet,) = (tmp_path / "export").glob("*.html")
    page = sheet.read_text()
    assert "<img src=x" not in page and "<b>" not in page.replace("<b>Verdict", "").replace("<b></b>", "")
