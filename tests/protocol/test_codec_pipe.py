"""The requests of protocol/vectors/README.md on the C codec, compared with Python's codec and libraries."""

import binascii
import hmac
import json
import random
import shutil
import subprocess
from pathlib import Path

import patrolink_messages as m
import pytest
from cobs import cobs
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from run import Program, load
from targets import vectors

PROTOCOL = Path(__file__).resolve().parent.parent.parent / "protocol"
PLAIN, ENCRYPTED, TAIL = 0, 2, 8
LABELS = (b"patrolink-up", b"patrolink-down")
AT = f"{vectors.KEY.hex()} {vectors.DEVICE}"


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    program = tmp_path_factory.mktemp("c") / "check"
    flags = ["-std=c99", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *flags, "-o", program, PROTOCOL / "vectors" / "check.c"], check=True)
    codec = Program([str(program)])
    yield codec
    assert codec.close() == 0


def encode(codec, kind, message, counter=1, epoch=0, flags=PLAIN, direction=None):
    """Ask for the frame of a message."""
    direction = (0 if m.UP >> kind & 1 else 1) if direction is None else direction
    text = json.dumps(message, ensure_ascii=False)
    return codec.ask(f"E {AT} {direction} {epoch} {counter} {flags} {kind} {text}")


def derive(label: bytes, epoch: int) -> bytes:
    """Return a key of an epoch (SPEC.md)."""
    return hmac.digest(vectors.KEY, label + epoch.to_bytes(4, "big"), "sha256")


def encrypted(frame: bytes, direction: int, epoch: int) -> bytes:
    """Return a plain frame as its sender must encrypt it, computed with libraries from the text of SPEC.md."""
    size = 16 if frame[0] & 31 >= 20 else 8
    header = bytes([frame[0], frame[1] | ENCRYPTED << 4, *frame[2:5]])
    key = derive(LABELS[direction] + b"-cipher", epoch)[:16]
    cipher = Cipher(algorithms.AES(key), modes.CTR(header + bytes(11))).encryptor()
    sealed = header + cipher.update(frame[5:-size])
    device = vectors.DEVICE.encode()
    context = bytes([len(device)]) + device + bytes([direction])
    return sealed + hmac.digest(derive(LABELS[direction], epoch), context + sealed, "sha256")[:size]


def test_version(codec):
    assert codec.ask("V") == {"protocol": "1.0", "codec": "patrolink.c", "rice": True}


def test_messages_are_encoded_to_the_frames_of_the_vectors(codec):
    count = 0
    for vector in [*load("messages.json"), *load("frames.json")]:
        if "reject" in vector or vector["id"].endswith("-later") or vector["key"] != vectors.KEY.hex():
            continue
        if vector["device"] != vectors.DEVICE or vector["message"]["message"] == "position_batch":
            continue
        frame = bytes.fromhex(vector["frame"])
        flags = frame[1] >> 4 & (ENCRYPTED | TAIL)
        message = vector["message"] | ({"extensions": vector["extensions"]} if flags & TAIL else {})
        got = encode(
            codec, vector["type"], message, vector["counter"], vector["epoch"], flags, direction=vector["direction"]
        )
        assert got == {"frame": vector["frame"]}, vector["id"]
        count += 1
    assert count > 80


@pytest.mark.parametrize("epoch", [0, 1, 0xFFFFFFFE])
def test_confidential_frames_are_those_of_the_standard_cipher(codec, epoch):
    """AES-128-CTR and HMAC-SHA256 of libraries give the same bytes; the frame is decoded to the message."""
    kinds = set()
    for vector in load("messages.json"):
        if "reject" in vector or vector["id"].endswith("-later") or not m.CONFIDENTIAL >> vector["type"] & 1:
            continue
        kind, direction = vector["type"], vector["direction"]
        plain = bytes.fromhex(encode(codec, kind, vector["message"], 77, epoch, PLAIN, direction)["frame"])
        got = encode(codec, kind, vector["message"], 77, epoch, ENCRYPTED, direction)["frame"]
        assert got == encrypted(plain, direction, epoch).hex(), vector["id"]
        decoded = codec.ask(f"F {AT} {direction} {epoch} {got}")
        assert decoded["message"] == vector["message"] and decoded["again"] == got
        kinds.add(kind)
    assert {1 << kind for kind in kinds} == {1 << k for k in range(32) if m.CONFIDENTIAL >> k & 1 and k != 2}


def test_values_that_are_not_legal_are_refused(codec):
    vector = next(v for v in load("messages.json") if v["id"] == "text-some")
    kind, message = vector["type"], vector["message"]
    assert "frame" in encode(codec, kind, message, direction=0)
    for name, value in (
        *(("text_id", value) for value in (-1, 2**32, 2**64, 10**30, 1.5, None)),
        *(("lat_e7", value) for value in (-900000001, 900000001, -(2**31) - 1, 2**63, -(2**63) - 1)),
        *(("text", value) for value in ("x" * 241, "\ud800", "\udc00x")),
    ):
        text = json.dumps({**message, name: value})
        got = codec.ask(f"E {AT} 0 0 1 0 {kind} {text}")
        assert got == {"reject": "range"}, (name, value)
    assert encode(codec, kind, {k: v for k, v in message.items() if k != "ack"}, direction=0) == {"reject": "range"}
    assert encode(codec, kind, {**message, "nothing": 1}, direction=0) == {"reject": "range"}
    assert encode(codec, kind, message, counter=1 << 28, direction=0) == {"reject": "range"}
    assert encode(codec, 29, {"message": "none"}) == {"reject": "type"}


@pytest.mark.parametrize(
    "words", ['a "b" \\ c', "tab\tline\n\u0001", "Grüße 巡逻 👮 \ufeff", "\u007f\u0080\u07ff\uffff"]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_is_encoded_in_all_forms_of_json(codec, words, ascii_only):
    vector = next(v for v in load("messages.json") if v["id"] == "text-some")
    text = json.dumps({**vector["message"], "text": words}, ensure_ascii=ascii_only)
    frame = codec.ask(f"E {AT} 0 0 1 0 {vector['type']} {text}")["frame"]
    assert codec.ask(f"F {AT} 0 0 {frame}")["message"]["text"] == words


def test_batches_are_encoded_as_python_does_and_encrypted(codec):
    rnd = random.Random(3)
    for n in (1, 2, 40, 255):
        for resolution in (5, 6, 7):
            rows = vectors.walk(n, n, step_ms=rnd.choice((1000, 100, 10, 1)))
            got = codec.ask(f"B {AT} 4 9 {resolution} 1 {json.dumps(rows)}")
            body = vectors.batch(rows, resolution)
            assert 5 + len(body) + 8 <= m.MAX_FRAME
            plain = vectors.seal(m.POSITION_BATCH, body, 9, epoch=4)
            assert got == {"frame": encrypted(plain, 0, 4).hex()}, (n, resolution)


@pytest.mark.parametrize(
    "time_ms", [-(2**63), 2**63 - 1, -1, 2**32 * 1000, 1700000000500], ids=["min", "max", "past", "future", "tick"]
)
def test_rows_with_times_that_are_not_legal_are_refused(codec, time_ms):
    first, second = vectors.walk(2, 1)
    for rows in ([[time_ms, *first[1:]]], [first, [time_ms, *second[1:]]]):
        assert codec.ask(f"B {AT} 0 1 6 1000 {json.dumps(rows)}") == {"reject": "range"}


def packet(data: bytes) -> bytes:
    return cobs.encode(data + binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "big")) + b"\0"


def test_serial_packets_are_those_of_libraries(codec):
    rnd = random.Random(7)
    stream, frames, invalid = b"", [], 0
    for n in (*range(1, 40), *range(250, 262), *range(504, 516), 1018, 1023, 1024):
        for _ in range(3):
            data = bytes(rnd.choice((0, 1, 255, rnd.randrange(256))) for _ in range(n))
            assert codec.ask(f"P {data.hex()}") == {"packet": packet(data).hex()}
            good = rnd.random() < 0.8
            stream += bytes(rnd.randrange(3)) + (packet(data) if good else b"\x01" + packet(data))
            frames += [data.hex()] if good else []
            invalid += not good
    assert "reject" in codec.ask(f"P {bytes(1025).hex()}")
    got, bad, at = [], 0, 0
    while at < len(stream):
        n = rnd.randrange(1, 2000)
        answer = codec.ask(f"U {stream[at : at + n].hex()}")
        got += answer["frames"]
        bad += answer["invalid"]
        at += n
    assert got == frames and bad == invalid > 10


@pytest.mark.parametrize(
    "line",
    ["X", f"E {AT} 0 0 1 0 1 {{", f"E {AT} 0 0 1 0 1", f"B {AT} 0 1 6 1 [[1]]", "F 00", "E" * 200_000],
    ids=["unknown", "cut", "without_message", "short_row", "few", "long"],
)
def test_what_is_no_request_is_answered_with_an_error(codec, line):
    assert "error" in codec.ask(line)
    assert codec.ask("V")["protocol"] == "1.0"
