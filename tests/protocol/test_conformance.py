"""Conformance of the C codec and the host's decoder to the vectors, and of the C codec to the Python codec."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import patrolink_enums as enums
import patrolink_messages as m
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder
from patrolink.transport.serial_line import FrameUnpacker, pack_frame
from patrolink_protocol import frame
from patrolink_protocol.errors import RejectError
from run import Program, check, load, main
from targets import model, vectors

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOCOL = ROOT / "protocol"
FILES = ("frames.json", "messages.json", "batches.json", "sequences.json")
STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-pedantic"]
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Codec(Program):
    """Runs the compiled C codec through a pipe."""

    def frame(self, data: bytes, direction: int = 0, epoch: int = 0, device: str = vectors.DEVICE) -> dict:
        return self.ask(f"F {vectors.KEY.hex()} {device} {direction} {epoch} {data.hex() or '-'}")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    program = tmp_path_factory.mktemp("c") / "check"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *STRICT, *sanitize, "-o", program, PROTOCOL / "vectors" / "check.c"], check=True)
    program_on_pipe = Codec([str(program)])
    yield program_on_pipe
    assert program_on_pipe.close() == 0


def test_c_codec_passes_every_vector(codec):
    result = dict(check(codec))
    assert len(result) == sum(len(load(name)) for name in FILES)
    assert {name: wrong for name, wrong in result.items() if wrong} == {}


@pytest.mark.parametrize("name", FILES[:3])
def test_c_codec_encodes_decoded_messages_to_the_same_message(codec, name):
    for vector in load(name):
        data = bytes.fromhex(vector["frame"])
        at = vector["direction"], vector["epoch"]
        encoded = codec.frame(data, *at, vector["device"]).get("again")
        if not encoded or vector["extensions"] or vector["id"].endswith(("-later", "tail-empty")):
            continue
        decoded = vectors.run(bytes.fromhex(encoded), *at, device=vector["device"])
        assert decoded["message"] == vector["message"], vector["id"]
        if vector["message"]["message"] != "position_batch":
            assert encoded == vector["frame"], vector["id"]


def test_runner_reports_failures(tmp_path, capsys):
    """Run a program that refuses everything, one that prints nothing, and one that does not exist."""
    refusing_program = [
        sys.executable,
        "-c",
        "import sys\nfor l in sys.stdin:\n l[0] != 'R' and print('{\"reject\": \"tag\"}', flush=True)",
    ]
    assert main(refusing_program) == 1
    assert "frame-plain: got {'reject': 'tag'}" in capsys.readouterr().out
    assert main([sys.executable, "-c", ""]) == 1
    assert main([str(tmp_path / "none")]) == 2 and main([]) == 2


def test_host_decoder_passes_the_uplink_sequences():
    from patrolink.core.keys import DeviceKey

    for vector in load("sequences.json"):
        if vector["direction"]:
            continue
        known = {vector["device"]: DeviceKey(bytes.fromhex(vector["key"]), vector["epoch"])} if vector["key"] else {}
        decoder = Decoder(known)
        for step in vector["steps"]:
            before = decoder.stats.duplicates
            decoder.rows(Record(0, vector["device"], bytes.fromhex(step["frame"])))
            result = decoder.reject_reason or ("repeated" if decoder.stats.duplicates > before else "accepted")
            assert result == step["expect"], vector["id"]


def test_every_requirement_has_a_vector():
    schema = model.load(PROTOCOL / "schema.toml")
    every = [vector for name in (*FILES, "serial.json") for vector in load(name)]
    tested = {req for vector in every for req in vector["req"]}
    assert tested == set(schema.requirements)
    ids = [vector["id"] for vector in every]
    assert len(ids) == len(set(ids))


def test_every_truncated_or_flipped_vector_is_refused(codec):
    """Both codecs refuse an authentic frame with any byte removed or any bit changed."""
    for name in FILES[:3]:
        for vector in load(name):
            data = bytes.fromhex(vector["frame"])
            if "reject" in vector:
                continue
            channel = frame.Channel(vectors.KEY, vector["device"].encode(), vector["direction"], vector["epoch"])
            for bad in damaged(data):
                with pytest.raises(RejectError) as caught:
                    channel.open_frame(bad)
                assert caught.value.name in ("length", "version", "tag")
    for vector in load("frames.json"):
        if "reject" not in vector:
            for bad in damaged(bytes.fromhex(vector["frame"])):
                result = codec.frame(bad, vector["direction"], vector["epoch"], vector["device"])
                assert result["reject"] in ("length", "version", "tag")


def damaged(data):
    for n in range(len(data)):
        yield data[:n]
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(bad)


def assert_same_result(codec, data):
    """Assert that both codecs give the same result for a frame."""
    expected = vectors.run(data)
    result = codec.frame(data)
    result.pop("again", None)
    assert result == expected


def test_flipped_bodies_with_a_correct_tag_give_the_same_result(codec):
    """Damaged bodies with a correct tag, as from a faulty device: both codecs decode or refuse them alike."""
    rnd = random.Random(5)
    bodies = [vectors.batch(vectors.walk(n, n), r, rice) for n, r, rice in ((3, 6, True), (9, 7, False), (20, 5, True))]
    for body in bodies:
        for bit in range(len(body) * 8):
            bad = bytearray(body)
            bad[bit >> 3] ^= 1 << (bit & 7)
            assert_same_result(codec, vectors.seal(m.POSITION_BATCH, bytes(bad)))
        for n in range(len(body)):
            assert_same_result(codec, vectors.seal(m.POSITION_BATCH, body[:n]))
    for vector in load("messages.json"):
        if "reject" in vector or vector["direction"]:
            continue
        size = frame.tag_bytes(vector["type"])
        body = bytes.fromhex(vector["frame"])[frame.HEADER_BYTES : -size]
        for _ in range(4):
            bad = bytearray(body)
            bad[rnd.randrange(len(bad))] ^= 1 << rnd.randrange(8)
            assert_same_result(codec, vectors.seal(vector["type"], bytes(bad)))


@MANY
@given(st.binary(max_size=120), st.integers(0, 31))
def test_any_body_gives_the_same_result(codec, body, kind):
    assert_same_result(codec, vectors.seal(kind, body))


@MANY
@given(st.binary(max_size=60), st.integers(0, 255), st.booleans())
def test_any_tail_gives_the_same_result(codec, raw, last, consistent):
    assert_same_result(
        codec, vectors.seal(m.TIME_SYNC, bytes(24) + raw + bytes([last if consistent else len(raw)]), tail=True)
    )


values = st.tuples(
    st.integers(0, 100_000),
    st.integers(-900_000_000, 900_000_000) | st.integers(-3000, 3000),
    st.integers(-1_800_000_000, 1_800_000_000) | st.integers(-3000, 3000),
    st.integers(1, 3),
    st.just(enums.UNKNOWN) | st.integers(-1_000_000, 20_000_000),
    st.just(enums.UNKNOWN) | st.integers(0, 1_000_000),
    st.just(enums.UNKNOWN) | st.integers(0, 35_999),
    st.just(enums.UNKNOWN) | st.integers(0, 1_000_000),
    st.just(enums.UNKNOWN) | st.integers(0, 99),
    st.just(enums.UNKNOWN) | st.integers(0, 100),
)


@MANY
@given(st.lists(values, min_size=1, max_size=20), st.integers(5, 7))
def test_any_rows_are_encoded_to_the_same_bytes(codec, rows_in, resolution):
    """The C codec encodes rows decoded from the Python encoder to the same bytes."""
    body = vectors.batch([[1700000000000 + row[0], *row[1:]] for row in rows_in], resolution)
    data = vectors.seal(m.POSITION_BATCH, body)
    result = codec.frame(data)
    assert result["message"] == vectors.run(data)["message"]
    # Rows are quantized now, so that Python encodes them to the same bytes.
    rows = [[enums.UNKNOWN if v is None else v for v in row] for row in result["message"]["rows"]]
    assert result["again"] == vectors.seal(m.POSITION_BATCH, vectors.batch(rows, resolution)).hex()


def test_host_passes_the_serial_vectors():
    for vector in load("serial.json"):
        unpacker = FrameUnpacker()
        frames = [frame.hex() for frame in unpacker.feed(bytes.fromhex(vector["bytes"]))]
        assert (frames, unpacker.invalid) == (vector["frames"], vector["invalid"]), vector["id"]
        if "frame" in vector:
            assert pack_frame(bytes.fromhex(vector["frame"])).hex() == vector["bytes"], vector["id"]


def test_serial_vectors_in_pieces_give_the_same_frames(codec):
    """The state of a line is kept between reads, and between the vectors: each ends with a zero byte."""
    rnd = random.Random(seed := random.randrange(1 << 32))
    for vector in load("serial.json"):
        data = bytes.fromhex(vector["bytes"])
        at, frames, invalid = 0, [], 0
        while at < len(data):
            n = rnd.choice((1, 2, 254, 1000))
            answer = codec.ask(f"U {data[at : at + n].hex()}")
            frames, invalid, at = frames + answer["frames"], invalid + answer["invalid"], at + n
        assert (frames, invalid) == (vector["frames"], vector["invalid"]), (vector["id"], f"seed {seed}")
