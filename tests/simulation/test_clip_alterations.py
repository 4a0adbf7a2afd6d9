"""Every alteration of a clip is detected: by kind of alteration, byte by byte, and at random."""

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
def recorded(tmp_path_factory):
    """Return a device, and the folder of its clips."""
    work = tmp_path_factory.mktemp("recorded")
    return clip_maker.make(work / "clips"), work / "clips" / "linux-1"


@pytest.fixture
def copy(recorded, tmp_path):
    return shutil.copytree(recorded[1].parent, tmp_path / "clips") / "linux-1"


def signers_of(device):
    return read_signers(device.parent / "signers.toml")


def test_every_alteration_has_its_verdict(tmp_path):
    assert alterations.main(tmp_path) == 0
    rows = {row["altered"]: row for row in alterations.json.loads((tmp_path / "alterations.json").read_text())}
    assert len(rows) == 1 + len(alterations.ALTERATIONS) and rows["nothing"]["findings"] == []
    exceptions = {
        "nothing": "valid",
        "a segment removed": "valid with gaps",
        "the whole clip removed": "valid with gaps",
        "the seal removed": "unverifiable",
        "the manifest removed": "unverifiable",
    }
    for name, row in rows.items():
        assert row["verdict"] == row["with_key"] == exceptions.get(name, "tampered"), row
    assert rows["a segment truncated"]["first"]["where"] == "000001-000010.pls"
    assert rows["the whole clip removed"]["first"] == {
        "grade": "gap",
        "kind": "chain",
        "where": "000003",
        "words": "clip 2 before this one is missing",
    }


def test_a_change_of_any_byte_of_a_manifest_is_detected(copy):
    """Each byte is changed once, to a random value. The clip is verified without the chain to other clips."""
    path = alterations.manifest_of(copy)
    original = path.read_bytes()
    rng = random.Random(SEED)
    signers = signers_of(copy)
    assert verify_clip(path.parent, signers).verdict == "valid"
    verdicts = []
    for at in range(len(original)):
        path.write_bytes(original[:at] + bytes([original[at] ^ rng.randrange(1, 256)]) + original[at + 1 :])
        verdicts.append(verify_clip(path.parent, signers).verdict)
        assert verdicts[-1] in ("tampered", "unverifiable"), (SEED, at)
    for at in rng.sample(range(len(original)), 200):
        for data in (
            original[:at] + original[at + 1 :],
            original[:at] + rng.randbytes(1) + original[at:],
            original[:at],
        ):
            path.write_bytes(data)
            assert verify_clip(path.parent, signers).verdict in ("tampered", "unverifiable"), (SEED, at)
    assert verdicts.count("tampered") > 0.99 * len(original)


def test_a_change_of_any_byte_of_a_segment_is_detected(copy):
    rng = random.Random(SEED)
    for _ in range(150):
        path = rng.choice(alterations.segments_of(copy))
        original = path.read_bytes()
        at = rng.randrange(len(original))
        path.write_bytes(original[:at] + bytes([original[at] ^ rng.randrange(1, 256)]) + original[at + 1 :])
        result = verify_clip(path.parent, signers_of(copy))
        assert result.verdict == "tampered", (SEED, path.name, at)
        assert [f.where for f in result.findings] == [path.name], (SEED, path.name, at)
        path.write_bytes(original)


def test_an_unknown_signer_or_version_is_unverifiable(copy):
    assert verify_device(copy, {}).verdict == "unverifiable"
    assert verify_device(copy, {"linux-1": ["02" + "11" * 32]}).verdict == "unverifiable"
    alterations.change_lines(copy, lambda lines: [lines[0].replace(b'"v":1', b'"v":2'), *lines[1:]])
    result = verify_clip(copy / "000002", signers_of(copy))
    assert result.verdict == "unverifiable" and "version 2" in result.findings[0].words


def test_segments_of_both_codecs_are_decrypted(tmp_path):
    pytest.importorskip("cv2", reason="no OpenCV, which the device encodes with: pip install opencv-python-headless")
    device = clip_maker.make(tmp_path / "clips", codec=clip.H264_MP4)
    folder = tmp_path / "clips" / "linux-1"
    result = verify_device(folder, signers_of(folder), device.evidence)
    assert [(c.decrypted, c.findings) for c in result.clips] == [(True, [])] * 4
    for path in alterations.segments_of(folder):
        content = segment.read(path, device.evidence)
        if content.header.codec == clip.H264_MP4:
            with av.open(io.BytesIO(content.media_file())) as container:
                assert sum(1 for _ in container.decode(video=0)) == content.frames


def test_a_power_cut_is_a_gap_and_complete_records_are_read(tmp_path):
    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem")
    device.run(6)
    device.recorder.trigger(1, 5, "", device.now)
    device.run(2.5)
    device.boot()
    device.run(3)
    folder = device.write(tmp_path / "clips")
    result = verify_device(folder, signers_of(folder), device.evidence)
    assert result.verdict == "valid with gaps" and result.clips[0].decrypted
    kinds = {(f.grade, f.kind) for f in result.clips[0].findings}
    assert {("gap", "cut"), ("gap", "close"), ("note", "records")} <= kinds, kinds
    cut = result.clips[0].manifest.segments[-1]
    assert cut["whole"] is False
    content = segment.read(folder / "000001" / (cut["seg"] + ".pls"), device.evidence)
    assert not content.complete and content.fault and len(list(content.jpegs())) > 0


def test_a_truncated_or_random_segment_is_read_up_to_its_fault(recorded):
    device, folder = recorded
    path = alterations.segments_of(folder)[0]
    data = path.read_bytes()
    original = segment.parse(data, device.evidence)
    assert original.complete and original.frames == len(list(original.jpegs())) == 10 and len(original.fixes) == 2
    rng = random.Random(SEED)
    for _ in range(200):
        at = rng.randrange(clip.HEADER_BYTES, len(data))
        cut = segment.parse(data[:at], device.evidence)
        assert not cut.complete and cut.fault, (SEED, at)
        assert cut.media == original.media[: len(cut.media)], (SEED, at)
    for _ in range(200):
        random_stream = data[: clip.HEADER_BYTES] + rng.randbytes(rng.randrange(4000))
        assert not segment.parse(random_stream, device.evidence).complete, SEED
    with pytest.raises(clip.SegmentError):
        segment.parse(data[: clip.HEADER_BYTES - 1], device.evidence)


def test_finding_of_a_thinned_file_names_the_clip_with_the_record(tmp_path):
    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem", quota_kb=700)
    device.run(6)
    first = device.event("button", 1)
    device.run(3)
    second = device.event("button", 2)
    device.run(3)
    folder = device.write(tmp_path / "clips")
    result = verify_device(folder, signers_of(folder))
    assert result.verdict == "valid with gaps"
    deleted = [f for f in result.clips[0].findings if f.kind == "thinned"]
    assert deleted and f"in clip {second}" in deleted[0].words, result.clips[0].findings
    assert not any(f.kind == "missing" for f in result.clips[0].findings)
    selected = verify_device(folder, signers_of(folder), only={f"{first:06d}"}).clips
    assert [c.findings for c in selected] == [result.clips[0].findings]
    # A record without a valid seal does not explain a missing file.
    alterations.flip(alterations.manifest_of(folder, second), -2)
    assert any(f.kind == "missing" for f in verify_device(folder, signers_of(folder)).clips[0].findings)


def test_random_lines_have_a_verdict_and_few_findings(copy):
    """Lines of a genuine manifest are truncated, copied and moved without a seal: their numbers must not be trusted."""
    path = alterations.manifest_of(copy)
    original = path.read_bytes()
    rng = random.Random(SEED)
    signers = signers_of(copy)
    for n in range(200):
        lines = original.splitlines(keepends=True)
        rng.shuffle(lines)
        data = bytearray(b"".join([*lines, *lines][: rng.randrange(1, 20)]))
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        path.write_bytes(data)
        assert verify_clip(path.parent, signers).verdict in ("tampered", "unverifiable"), (SEED, n)
    # Step 999999 leaves a gap of nearly a million steps.
    lines = [line.replace(b'"000001-000012"', b'"000001-999999"') for line in original.splitlines(keepends=True)]
    path.write_bytes(b"".join(lines))
    findings = verify_clip(path.parent, signers).findings
    assert len(findings) < 10 and any("does not list 999985 segments" in f.words for f in findings), findings


def test_a_manifest_of_millions_of_lines_has_few_findings(copy):
    """Regression: four million empty lines took a minute and caused as many findings."""
    path = alterations.manifest_of(copy)
    original = path.read_bytes()
    for data in (b"\n" * manifest.BYTES_MAX, original + b"{}\n" * 30_000, b"[" * 900 + b"\n" + original * 100):
        path.write_bytes(data)
        result = verify_clip(path.parent, signers_of(copy))
        forms = [f for f in result.findings if f.kind == "form"]
        assert result.verdict == "tampered" and 1 <= len(forms) <= 25, (len(data), len(forms))
    # Any number of unknown lines under a valid seal makes the clip unverifiable, not tampered.
    unknown = b'{"later":1}\n' * 100
    lines = original.splitlines(keepends=True)
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    lines[0] = re.sub(rb'"signer":"[0-9a-f]*"', b'"signer":"%s"' % point.hex().encode(), lines[0])
    lines = [*lines[:-1], *unknown.splitlines(keepends=True), lines[-1]]
    path.write_bytes(b"".join(alterations.seal(lines, private)))
    result = verify_clip(path.parent, {"linux-1": [point.hex()]})
    assert result.verdict == "unverifiable", result.findings


def test_segments_of_an_unproven_clip_are_not_decrypted(recorded, copy):
    """A header that claims the last step of a boot costs a million hashes."""
    path = alterations.segments_of(copy)[0]
    header = clip.unpack_header(path.read_bytes())
    header.step = 999_999
    path.write_bytes(header.pack() + path.read_bytes()[clip.HEADER_BYTES :])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def change(lines):
        line = json.loads(lines[1]) | {"sha256": digest}
        return [lines[0], json.dumps(line, separators=(",", ":")).encode() + b"\n", *lines[2:]]

    alterations.change_lines(copy, change)
    for signers in (signers_of(copy), {}):
        result = verify_clip(copy / "000002", signers, recorded[0].evidence)
        assert result.verdict == "tampered" and not result.decrypted
    assert not verify_clip(copy / "000001", {}, recorded[0].evidence).decrypted


def test_a_clip_in_the_folder_of_another_device_is_tampered(copy, tmp_path):
    signers = signers_of(copy) | {"linux-2": ["02" + "11" * 32]}
    folder = shutil.copytree(copy, copy.parent / "linux-2")
    for result in (verify_clip(folder / "000001", signers), verify_device(folder, signers).clips[0]):
        assert result.verdict == "tampered" and result.findings[0].kind == "device"
    case = shutil.copytree(copy / "000001", tmp_path / "case 17" / "000001")
    result = verify_clip(case, signers)
    assert result.verdict == "valid" and [(f.grade, f.kind) for f in result.findings] == [("note", "device")]


def test_names_are_parsed_in_the_json_form_of_both_runtimes():
    names = ["Živa", 'a"b\\c', "\b\f\n\t\x01\x7f", "\\b"]
    for name in names:
        # CPython escapes letters outside ASCII; MicroPython does not, and it has no \b and \f.
        micropython = json.dumps(name, ensure_ascii=False).replace("\\b\\f", "\\u0008\\u000c")
        for text in (json.dumps(name), micropython):
            line = f'{{"access":"snapshot","who":{text},"time_ms":5}}\n'
            assert [access["who"] for access in manifest.parse(line.encode()).accesses] == [name], line
    duplicate_key = b'{"access":"snapshot","who":"a","who":"b","time_ms":5}\n'
    assert (
        manifest.parse(duplicate_key).accesses == []
        and manifest.parse(b'{"access": "a","who":"b","time_ms":5}\n').faults
    )


def test_a_clock_step_and_a_position_jump_are_notes(tmp_path):
    device = clip_maker.Device("linux-1", tmp_path / "evidence.pem")
    device.run(6)
    device.recorder.trigger(0, 5, "", device.now)
    device.run(1.5)
    device.shift_ms = -3_600_000
    device.run(6)
    folder = device.write(tmp_path / "clips")
    result = verify_device(folder, signers_of(folder), device.evidence).clips[0]
    kinds = {(f.grade, f.kind) for f in result.findings}
    assert result.verdict == "valid" and {("note", "clock"), ("note", "position")} <= kinds, result.findings
