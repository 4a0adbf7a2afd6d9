"""The vectors against the C codec and the host's decoder; the C codec against the Python one on what nobody chose."""

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
from patrolink_protocol import frame
from patrolink_protocol.errors import RejectError
from run import Program, check, load, main
from targets import model, vectors

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOCOL = ROOT / "protocol"
FILES = ("frames.json", "messages.json", "batches.json", "sequences.json")
STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Codec(Program):
    """The compiled C codec behind a pipe."""

    def frame(self, data: bytes, direction: int = 0, epoch: int = 0) -> dict:
        return self.ask(f"F {vectors.KEY.hex()} {vectors.DEVICE} {direction} {epoch} {data.hex() or '-'}")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    program = tmp_path_factory.mktemp("c") / "check"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *STRICT, *sanitize, "-o", program, PROTOCOL / "vectors" / "check.c"], check=True)
    it = Codec([str(program)])
    yield it
    assert it.close() == 0


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_c_codec_compiles_without_a_libc(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    cpu = ["-mcpu=cortex-m3", "-mthumb"] if compiler.startswith("arm") else []
    out = tmp_path / "patrolink.o"
    source = PROTOCOL / "generated" / "patrolink.c"
    subprocess.run([compiler, *STRICT, *cpu, "-ffreestanding", "-nostdinc++", "-c", source, "-o", out], check=True)
    if shutil.which("nm"):
        wanted = subprocess.run(["nm", "-u", out], capture_output=True, text=True).stdout
        # Compilers may ask for these four whatever the source says; the ARM runtime divides 64 bits in a helper.
        allowed = ("memcpy", "memset", "memmove", "memcmp", "__aeabi_", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail")
        assert [s for s in wanted.split() if s != "U" and not s.startswith(allowed)] == []


def test_c_codec_runs_every_vector(codec):
    said = dict(check(codec))
    assert len(said) == sum(len(load(name)) for name in FILES)
    assert {name: wrong for name, wrong in said.items() if wrong} == {}


@pytest.mark.parametrize("name", FILES[:3])
def test_c_codec_encodes_what_it_decoded(codec, name):
    for vector in load(name):
        data = bytes.fromhex(vector["frame"])
        again = codec.frame(data, vector["direction"], vector["epoch"]).get("again")
        if again is None or vector["extensions"] or vector["id"].endswith(("-later", "tail-empty")):
            continue
        repeated = vectors.run(bytes.fromhex(again), vector["direction"], vector["epoch"])
        assert repeated["message"] == vector["message"], vector["id"]
        if vector["message"]["message"] != "position_batch":
            assert again == vector["frame"], vector["id"]


def test_the_runner_tells_what_is_wrong(tmp_path, capsys):
    """A program that refuses everything, one that says nothing, one that is none."""
    refuses = [
        sys.executable,
        "-c",
        "import sys\nfor l in sys.stdin:\n l[0] != 'R' and print('{\"reject\": \"tag\"}', flush=True)",
    ]
    assert main(refuses) == 1
    assert "frame-plain: said {'reject': 'tag'}" in capsys.readouterr().out
    assert main([sys.executable, "-c", ""]) == 1
    assert main([str(tmp_path / "none")]) == 2 and main([]) == 2


def test_the_hosts_decoder_runs_the_uplink_sequences():
    from patrolink.core.keys import DeviceKey

    for vector in load("sequences.json"):
        if vector["direction"]:
            continue
        known = {vector["device"]: DeviceKey(bytes.fromhex(vector["key"]), vector["epoch"])} if vector["key"] else {}
        decoder = Decoder(known)
        for step in vector["steps"]:
            before = decoder.stats.duplicates
            decoder.rows(Record(0, vector["device"], bytes.fromhex(step["frame"])))
            said = decoder.reject_reason or ("repeated" if decoder.stats.duplicates > before else "accepted")
            assert said == step["expect"], vector["id"]


def test_every_requirement_has_a_vector():
    schema = model.load(PROTOCOL / "schema.toml")
    shown = {req for name in FILES for vector in load(name) for req in vector["req"]}
    assert shown == set(schema.requirements)
    ids = [vector["id"] for name in FILES for vector in load(name)]
    assert len(ids) == len(set(ids))


def test_every_truncation_and_flip_of_every_vector(codec):
    """No part of a genuine frame can be cut or changed: the tag catches it, in both codecs alike."""
    for name in FILES[:3]:
        for vector in load(name):
            data = bytes.fromhex(vector["frame"])
            if "reject" in vector:
                continue
            channel = frame.Channel(vectors.KEY, vectors.DEVICE.encode(), vector["direction"], vector["epoch"])
            for bad in hurt(data):
                with pytest.raises(RejectError) as caught:
                    channel.open_frame(bad)
                assert caught.value.name in ("length", "version", "tag")
    for vector in load("frames.json"):
        if "reject" not in vector:
            for bad in hurt(bytes.fromhex(vector["frame"])):
                said = codec.frame(bad, vector["direction"], vector["epoch"])
                assert said["reject"] in ("length", "version", "tag")


def hurt(data):
    for n in range(len(data)):
        yield data[:n]
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(bad)


def same(codec, data):
    """Both codecs say the same of a frame."""
    ours = vectors.run(data)
    theirs = codec.frame(data)
    theirs.pop("again", None)
    assert theirs == ours


def test_flipped_bodies_under_a_right_tag(codec):
    """What the tag cannot catch, a device that does it wrong: both codecs decode alike, or refuse alike."""
    rnd = random.Random(5)
    bodies = [vectors.batch(vectors.walk(n, n), r, rice) for n, r, rice in ((3, 6, True), (9, 7, False), (20, 5, True))]
    for body in bodies:
        for bit in range(len(body) * 8):
            bad = bytearray(body)
            bad[bit >> 3] ^= 1 << (bit & 7)
            same(codec, vectors.seal(m.POSITION_BATCH, bytes(bad)))
        for n in range(len(body)):
            same(codec, vectors.seal(m.POSITION_BATCH, body[:n]))
    for vector in load("messages.json"):
        if "reject" in vector or vector["direction"]:
            continue
        size = frame.tag_bytes(vector["type"])
        body = bytes.fromhex(vector["frame"])[frame.HEADER_BYTES : -size]
        for _ in range(4):
            bad = bytearray(body)
            bad[rnd.randrange(len(bad))] ^= 1 << rnd.randrange(8)
            same(codec, vectors.seal(vector["type"], bytes(bad)))


@MANY
@given(st.binary(max_size=120), st.integers(0, 31))
def test_any_body_says_the_same(codec, body, kind):
    same(codec, vectors.seal(kind, body))


@MANY
@given(st.binary(max_size=60), st.integers(0, 255), st.booleans())
def test_any_tail_says_the_same(codec, raw, last, genuine):
    same(codec, vectors.seal(m.TIME_SYNC, bytes(24) + raw + bytes([last if genuine else len(raw)]), tail=True))


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
def test_both_encoders_choose_alike(codec, some, resolution):
    """The C codec, given what Python's encoder said, says it in the same bytes."""
    body = vectors.batch([[1700000000000 + row[0], *row[1:]] for row in some], resolution)
    data = vectors.seal(m.POSITION_BATCH, body)
    said = codec.frame(data)
    assert said["message"] == vectors.run(data)["message"]
    # Quantised rows, encoded again by Python.
    rows = [[enums.UNKNOWN if v is None else v for v in row] for row in said["message"]["rows"]]
    assert said["again"] == vectors.seal(m.POSITION_BATCH, vectors.batch(rows, resolution)).hex()
