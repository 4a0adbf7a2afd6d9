"""Whatever is changed of a clip is told: by kinds of alteration, byte by byte, and at random."""

import hashlib
import io
import json
import random
import re
import shutil

import av
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from patrolink.evidence import manifest, segment
from patrolink.evidence.clip_folders import read_signers
from patrolink.evidence.verify import verify_clip, verify_device
from patrolink_protocol import clip

from tests.simulation import clip_alterations as alterations
from tests.support import clip_maker

pytestmark = pytest.mark.skipif(not clip_maker.DEMO_VIDEO.exists(), reason="no build/media/bikes.mp4: run `make media`")
SEED = 20_261_125


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    work = tmp_path_factory.mktemp("made")
    return clip_maker.make(work / "clips"), work / "clips" / "linux-1"


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made[1].parent, tmp_path / "clips") / "linux-1"


def known(device):
    return read_signers(device.parent / "signers.toml")


def test_every_alteration_has_its_verdict(tmp_path):
    assert alterations.main(tmp_path) == 0
    rows = {row["altered"]: row for row in alterations.json.loads((tmp_path / "alterations.json").read_text())}
    assert len(rows) == 1 + len(alterations.ALTERATIONS) and rows["nothing"]["findings"] == []
    other = {
        "nothing": "valid",
        "a segment removed": "valid with gaps",
        "the whole clip removed": "valid with gaps",
        "the seal removed": "unverifiable",
        "the manifest removed": "unverifiable",
    }
    for name, row in rows.items():
        assert row["verdict"] == row["with_key"] == other.get(name, "tampered"), row
    assert rows["a segment cut short"]["first"]["where"] == "000001-000010.pls"
    assert rows["the whole clip removed"]["first"] == {
        "grade": "gap",
        "kind": "chain",
        "where": "000003",
        "words": "clip 2 before this one is missing",
    }


def test_no_byte_of_a_manifest_can_be_changed(copy):
    """Each byte once, to a value of its own; the clip by itself, so that no other clip gives it away."""
    path = alterations.manifest_of(copy)
    whole = path.read_bytes()
    rng = random.Random(SEED)
    signers = known(copy)
    assert verify_clip(path.parent, signers).verdict == "valid"
    verdicts = []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ rng.randrange(1, 256)]) + whole[at + 1 :])
        verdicts.append(verify_clip(path.parent, signers).verdict)
        assert verdicts[-1] in ("tampered", "unverifiable"), (SEED, at)
    for at in rng.sample(range(len(whole)), 200):
        for data in (whole[:at] + whole[at + 1 :], whole[:at] + rng.randbytes(1) + whole[at:], whole[:at]):
            path.write_bytes(data)
            assert verify_clip(path.parent, signers).verdict in ("tampered", "unverifiable"), (SEED, at)
    assert verdicts.count("tampered") > 0.99 * len(whole)


def test_no_byte_of_a_segment_can_be_changed(copy):
    rng = random.Random(SEED)
    for _ in range(150):
        path = rng.choice(alterations.segments_of(copy))
        whole = path.read_bytes()
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ rng.randrange(1, 256)]) + whole[at + 1 :])
        found = verify_clip(path.parent, known(copy))
        assert found.verdict == "tampered", (SEED, path.name, at)
        assert [f.where for f in found.findings] == [path.name], (SEED, path.name, at)
        path.write_bytes(whole)


def test_an_unknown_signer_or_version_is_unverifiable(copy):
    assert verify_device(copy, {}).verdict == "unverifiable"
    assert verify_device(copy, {"linux-1": ["02" + "11" * 32]}).verdict == "unverifiable"
    alterations.lines(copy, lambda said: [said[0].replace(b'"v":1', b'"v":2'), *said[1:]])
    found = verify_clip(copy / "000002", known(copy))
    assert found.verdict == "unverifiable" and "version 2" in found.findings[0].words


def test_both_codecs_are_looked_into(tmp_path):
    pytest.importorskip("cv2", reason="no OpenCV, which the device encodes with: pip install opencv-python-headless")
    device = clip_maker.make(tmp_path / "clips", codec=clip.H264_MP4)
    folder = tmp_path / "clips" / "linux-1"
    found = verify_device(folder, known(folder), device.evidence)
    assert [(one.decrypted, one.findings) for one in found.clips] == [(True, [])] * 4
    for path in alterations.segments_of(folder):
        read = segment.read(path, device.evidence)
        if read.header.codec == clip.H264_MP4:
            with av.open(io.BytesIO(read.media_file())) as film:
                assert sum(1 for _ in film.decode(video=0)) == read.frames


def test_a_power_cut_is_a_gap_and_what_is_whole_is_read(tmp_path):
    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem")
    device.run(6)
    device.recorder.trigger(1, 5, "", device.now)
    device.run(2.5)
    device.boot()
    device.run(3)
    folder = device.write(tmp_path / "clips")
    found = verify_device(folder, known(folder), device.evidence)
    assert found.verdict == "valid with gaps" and found.clips[0].decrypted
    kinds = {(f.grade, f.kind) for f in found.clips[0].findings}
    assert {("gap", "cut"), ("gap", "close"), ("note", "records")} <= kinds, kinds
    torn = found.clips[0].manifest.segments[-1]
    assert torn["whole"] is False
    read = segment.read(folder / "000001" / (torn["seg"] + ".pls"), device.evidence)
    assert not read.complete and read.fault and len(list(read.jpegs())) > 0


def test_a_segment_cut_anywhere_or_of_any_bytes_is_read_as_far_as_it_goes(made):
    device, folder = made
    path = alterations.segments_of(folder)[0]
    data = path.read_bytes()
    whole = segment.parse(data, device.evidence)
    assert whole.complete and whole.frames == len(list(whole.jpegs())) == 10 and len(whole.fixes) == 2
    rng = random.Random(SEED)
    for _ in range(200):
        at = rng.randrange(clip.HEADER_BYTES, len(data))
        cut = segment.parse(data[:at], device.evidence)
        assert not cut.complete and cut.fault, (SEED, at)
        assert cut.media == whole.media[: len(cut.media)], (SEED, at)
    for _ in range(200):
        noise = data[: clip.HEADER_BYTES] + rng.randbytes(rng.randrange(4000))
        assert not segment.parse(noise, device.evidence).complete, SEED
    with pytest.raises(clip.SegmentError):
        segment.parse(data[: clip.HEADER_BYTES - 1], device.evidence)


def test_what_the_device_thinned_is_told_by_whom(tmp_path):
    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem", quota_kb=2200)
    device.run(6)
    first = device.event("button", 1)
    device.run(3)
    second = device.event("button", 2)
    device.run(3)
    folder = device.write(tmp_path / "clips")
    found = verify_device(folder, known(folder))
    assert found.verdict == "valid with gaps"
    gone = [f for f in found.clips[0].findings if f.kind == "thinned"]
    assert gone and f"in clip {second}" in gone[0].words, found.clips[0].findings
    assert not any(f.kind == "missing" for f in found.clips[0].findings)
    alone = verify_device(folder, known(folder), only={f"{first:06d}"}).clips
    assert [one.findings for one in alone] == [found.clips[0].findings]
    # What nobody signed explains nothing.
    alterations.flip(alterations.manifest_of(folder, second), -2)
    assert any(f.kind == "missing" for f in verify_device(folder, known(folder)).clips[0].findings)


def test_any_lines_have_a_verdict_and_few_findings(copy):
    """Lines of a genuine manifest, cut, doubled, moved, and sealed by nobody: no number in them is believed."""
    path = alterations.manifest_of(copy)
    whole = path.read_bytes()
    rng = random.Random(SEED)
    signers = known(copy)
    for n in range(200):
        said = whole.splitlines(keepends=True)
        rng.shuffle(said)
        data = bytearray(b"".join([*said, *said][: rng.randrange(1, 20)]))
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        path.write_bytes(data)
        found = verify_clip(path.parent, signers)
        assert found.verdict in ("tampered", "unverifiable"), (SEED, n)
    # A step that is far away leaves out nearly a million.
    lines = [it.replace(b'"000001-000012"', b'"000001-999999"') for it in whole.splitlines(keepends=True)]
    path.write_bytes(b"".join(lines))
    found = verify_clip(path.parent, signers).findings
    assert len(found) < 10 and any("does not list 999985 segments" in it.words for it in found), found


def test_lines_without_end_are_told_once(copy):
    """A manifest of four million empty lines took a minute, and was told in as many findings."""
    path = alterations.manifest_of(copy)
    whole = path.read_bytes()
    for data in (b"\n" * manifest.BYTES_MAX, whole + b"{}\n" * 30_000, b"[" * 900 + b"\n" + whole * 100):
        path.write_bytes(data)
        found = verify_clip(path.parent, known(copy))
        forms = [f for f in found.findings if f.kind == "form"]
        assert found.verdict == "tampered" and 1 <= len(forms) <= 25, (len(data), len(forms))
    # What its own device sealed in a form that is not known stays unverifiable, however many lines of it there are.
    strange = b'{"later":1}\n' * 100
    said = whole.splitlines(keepends=True)
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    said[0] = re.sub(rb'"signer":"[0-9a-f]*"', b'"signer":"%s"' % point.hex().encode(), said[0])
    path.write_bytes(b"".join(alterations.sealed([*said[:-1], *strange.splitlines(keepends=True), said[-1]], private)))
    found = verify_clip(path.parent, {"linux-1": [point.hex()]})
    assert found.verdict == "unverifiable", found.findings


def test_nothing_is_deciphered_for_whom_nobody_knows(made, copy):
    """A header that claims the last step of a boot would cost a million hashes."""
    path = alterations.segments_of(copy)[0]
    header = clip.unpack_header(path.read_bytes())
    header.step = 999_999
    path.write_bytes(header.pack() + path.read_bytes()[clip.HEADER_BYTES :])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def change(said):
        line = json.loads(said[1]) | {"sha256": digest}
        return [said[0], json.dumps(line, separators=(",", ":")).encode() + b"\n", *said[2:]]

    alterations.lines(copy, change)
    for signers in (known(copy), {}):
        found = verify_clip(copy / "000002", signers, made[0].evidence)
        assert found.verdict == "tampered" and not found.decrypted
    assert not verify_clip(copy / "000001", {}, made[0].evidence).decrypted


def test_a_clip_in_another_devices_folder_is_told(copy, tmp_path):
    signers = known(copy) | {"linux-2": ["02" + "11" * 32]}
    taken = shutil.copytree(copy, copy.parent / "linux-2")
    for one in (verify_clip(taken / "000001", signers), verify_device(taken, signers).clips[0]):
        assert one.verdict == "tampered" and one.findings[0].kind == "device"
    kept = shutil.copytree(copy / "000001", tmp_path / "case 17" / "000001")
    found = verify_clip(kept, signers)
    assert found.verdict == "valid" and [(f.grade, f.kind) for f in found.findings] == [("note", "device")]


def test_names_of_any_characters_are_read_as_both_runtimes_write_them():
    names = ["Živa", 'a"b\\c', "\b\f\n\t\x01\x7f", "\\b"]
    for name in names:
        # As CPython writes it, and as MicroPython does, which knows fewer short forms and leaves letters as they are.
        micropython = json.dumps(name, ensure_ascii=False).replace("\\b\\f", "\\u0008\\u000c")
        for text in (json.dumps(name), micropython):
            line = f'{{"access":"snapshot","who":{text},"time_ms":5}}\n'
            assert [said["who"] for said in manifest.parse(line.encode()).accesses] == [name], line
    twice = b'{"access":"snapshot","who":"a","who":"b","time_ms":5}\n'
    assert manifest.parse(twice).accesses == [] and manifest.parse(b'{"access": "a","who":"b","time_ms":5}\n').faults


def test_the_clock_that_was_set_and_the_position_that_jumps_are_told(tmp_path):
    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem")
    device.run(6)
    device.recorder.trigger(0, 5, "", device.now)
    device.run(1.5)
    device.shift_ms = -3_600_000
    device.run(6)
    folder = device.write(tmp_path / "clips")
    found = verify_device(folder, known(folder), device.evidence).clips[0]
    told = {(f.grade, f.kind) for f in found.findings}
    assert found.verdict == "valid" and {("note", "clock"), ("note", "position")} <= told, found.findings
