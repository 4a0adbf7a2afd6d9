"""The batch decoder with numpy or the C codec, and the plain decoder agree on valid bodies, damaged ones and noise."""

import json
import random
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import patrolink_messages as m
import pytest
from patrolink.core import batch_columns, batch_decoder
from patrolink.core.batch_extension import ExtensionDecoder
from patrolink.core.batch_opener import BatchOpener
from patrolink.core.capture import Record
from patrolink.core.keys import DeviceKey
from patrolink_protocol import frame, key_derivation, receiver, track_decoder, track_encoder
from patrolink_protocol.errors import RejectError
from targets import vectors

from tests.support import codec_extension

SEED = 20
VECTORS = Path(vectors.__file__).resolve().parent.parent / "vectors"


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    """The module of the C codec."""
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler (apt-get install gcc)")
    return codec_extension.load(codec_extension.build(tmp_path_factory.mktemp("codec")))


@pytest.fixture(params=["numpy", "C codec"])
def check(request):
    """Return a function that checks that a batch decoder and the plain decoder agree on bodies."""
    if request.param == "numpy":
        decoder = batch_columns.NumpyDecoder()
    else:
        decoder = ExtensionDecoder(request.getfixturevalue("extension"))

    def check(bodies):
        columns, counts, refused = decode_one_by_one(bodies)
        batches = batch_decoder.decode(bodies, decoder)
        assert batches.rejected == refused
        assert batches.counts.tolist() == counts
        for name in batch_decoder.NAMES:
            assert batches.columns[name].tolist() == columns[name], name

    return check


def decode_one_by_one(bodies):
    """Return (columns, rows per body, reject reason by index) of the scalar decoder."""
    columns, counts, refused = {name: [] for name in batch_decoder.NAMES}, [], {}
    for i, body in enumerate(bodies):
        try:
            _, values = track_decoder.decode_columns(body)
        except RejectError as e:
            refused[i] = e.name
            counts.append(0)
            continue
        counts.append(len(values["time"]))
        for name in batch_decoder.NAMES:
            columns[name] += values[name]
    return columns, counts, refused


def test_decoders_agree_on_every_batch_vector(check):
    bodies = [
        bytes.fromhex(v["frame"])[5:-8]
        for v in json.loads((VECTORS / "batches.json").read_text(encoding="utf-8"))["vectors"]
    ]
    check(bodies)
    # Enough copies for the vectorized path, with valid and invalid bodies mixed.
    check([body for body in bodies for _ in range(9)])


def test_decoders_agree_on_random_walks(check):
    rnd = random.Random(SEED)
    bodies = []
    for i in range(1500):
        rows = vectors.walk(rnd.choice((1, 2, 3, 20, 60, 255)), i, step_ms=rnd.choice((1000, 200, 10, 37)))
        if rnd.random() < 0.3:
            for row in rows:
                row[4 + rnd.randrange(6)] = vectors.U
        omit = ("speed", "course") if rnd.random() < 0.3 else ()
        bodies.append(vectors.batch(rows, rnd.choice((5, 6, 7)), rnd.random() < 0.2, omit))
    check(bodies)


def test_decoders_agree_on_damaged_bodies(check):
    rnd = random.Random(SEED)
    good = [vectors.batch(vectors.walk(12, n % 5), rice=n % 2) for n in range(40)]
    bodies = []
    for body in good * 40:
        bad = bytearray(body)
        for _ in range(rnd.choice((0, 1, 1, 2, 8))):
            bad[rnd.randrange(len(bad))] ^= 1 << rnd.randrange(8)
        bodies.append(bytes(bad[: rnd.choice((len(bad), len(bad), rnd.randrange(len(bad) + 1)))]))
    check(bodies)


def test_decoders_agree_on_noise_and_empty_bodies(check):
    rnd = random.Random(SEED)
    check([])
    check([b""] * 20)
    check([rnd.randbytes(rnd.randrange(200)) for _ in range(3000)])
    check([bytes([0x80 | rnd.randrange(64)]) + rnd.randbytes(60) for _ in range(1000)])
    check([bytes([0x80 | rnd.randrange(64)]) + b"\xff" * 60 for _ in range(200)])


def put_rice(bits, codes, k):
    for code in codes:
        if code >> k < track_encoder.ESCAPE:
            bits.put(1, (code >> k) + 1).put(code, k)
        else:
            bits.put(0, track_encoder.ESCAPE).eg(code - (track_encoder.ESCAPE << k), k + 3)


def put_runs(bits, codes, k):
    run = 0
    for code in codes:
        if code:
            bits.eg(run, k).eg(code - 1, 0)
        run = 0 if code else run + 1
    if run or not codes[-1:]:
        bits.eg(run, k) if codes else None


def put_column(rnd, bits, n, raw_bits, largest):
    """Append random values after the first one, in a random coding; larger ones are rarer."""
    if n == 1:
        return
    mode = rnd.choice((0, 1, 2, 2, 2, 3, 4, 5, 6, 6, rnd.randrange(8)))
    bits.put(mode, 3)
    coding, second = mode & 3, mode >> 2
    if coding == track_encoder.RAW:
        for _ in range(n - 1):
            bits.put(rnd.randrange(1, largest + 2), raw_bits)
        return
    if second:
        bits.eg(rnd.randrange(min(largest, 2) + 1), 0)
    codes = [rnd.choice((0, 0, 0, rnd.randrange(largest + 1))) for _ in range(n - 1 - second)]
    if coding == track_encoder.FIXED:
        width = max(rnd.randrange(1, 35), max(codes, default=0).bit_length())
        bits.put(width, 6)
        for code in codes:
            bits.put(code, width)
    elif coding == track_encoder.RICE:
        k = rnd.randrange(16)
        bits.put(k, 4)
        if k < track_encoder.RUNS:
            put_rice(bits, codes, k)
        else:
            put_runs(bits, codes, k - track_encoder.RUNS + 2)


def random_body(rnd):
    """Return a batch with a random coding in every column; most are valid."""
    n, resolution = rnd.choice((1, 2, 3, 24)), rnd.choice((5, 6, 6, 6, 7))
    tick = rnd.randrange(4)
    bits = vectors.BitWriter().eg(n - 1, 0).put(resolution - 5, 2).put(tick, 2)
    present = rnd.choice((127, 127, rnd.randrange(128)))
    bits.put(1, 1) if present == 127 and rnd.random() < 0.8 else bits.put(present, 7 if present < 64 else 1)
    present = 63 if present >= 64 else present
    bits.put(1_700_000_000, 32)
    if tick:
        bits.put(rnd.randrange(1000), 10)
    put_column(rnd, bits, n, 32, 1000)
    for name, _, high, divisor, width, k, _, optional, _ in track_encoder.column_specs(resolution)[1:]:
        if optional:
            present, has_column = present >> 1, present & 1
            if not has_column:
                continue
        middle = 3 if name == "state" else high // 2 // divisor | 1  # odd: the code of a positive altitude
        first = 0 if optional and rnd.random() < 0.05 else middle
        bits.put(first, width) if k < 0 else bits.eg(first, k)
        largest = {"state": 0, "lat": 100_000, "lon": 100_000}.get(name, 4)
        put_column(rnd, bits, n, width, largest if rnd.random() < 0.98 else 40_000)
    return bits.body()


def test_decoders_agree_on_every_coding(check):
    rnd = random.Random(SEED)
    bodies = [random_body(rnd) for _ in range(6000)]
    refused = decode_one_by_one(bodies)[2]
    assert len(bodies) / 8 < len(refused) < len(bodies) / 2, "a share of both"
    check(bodies)
    check(
        [body[: rnd.randrange(len(body))] if rnd.random() < 0.5 else body + bytes(rnd.randrange(3)) for body in bodies]
    )


def test_codings_of_devices_are_decoded_side_by_side():
    bodies = [vectors.batch(vectors.walk(60, i, step_ms=1000)) for i in range(400)]
    (part,) = batch_columns.NumpyDecoder().decode_parts(bodies)
    assert part.indices.tolist() == list(range(400))


def test_outcomes_of_frames_equal_those_of_the_receiver():
    rnd = random.Random(SEED)
    body = vectors.batch(vectors.walk(3, 1))
    sync = bytes(7) + b"\x01" + bytes(16)
    frames = []
    for i in range(400):
        epoch = 1 if i > 300 else 0
        counter = rnd.choice((i, i, max(0, i - 5), i + 90000 * (i > 200)))
        kind = rnd.choice((m.POSITION_BATCH,) * 6 + (m.TIME_SYNC, 31))
        encrypted = rnd.random() < 0.7
        data = vectors.seal(kind, body if kind == m.POSITION_BATCH else sync, counter, epoch=epoch, encrypted=encrypted)
        if rnd.random() < 0.1:
            data = data[: rnd.randrange(len(data))]
        frames.append(data)
    scalar_receiver = receiver.Receiver(vectors.KEY, vectors.DEVICE.encode())
    expected = []
    for data in frames:
        try:
            kind, _, repeated = scalar_receiver.accept(data)
            if not repeated:
                scalar_receiver.read(data)
            expected.append("repeated" if repeated else "" if kind == m.POSITION_BATCH else "other")
        except RejectError as e:
            expected.append(e.name)
    records = [Record(0, vectors.DEVICE, data) for data in frames]
    opened = BatchOpener({vectors.DEVICE: DeviceKey(vectors.KEY)}).open(records)
    assert opened.outcomes == expected
    assert opened.indices == [i for i, outcome in enumerate(expected) if not outcome]
    assert all(bytes(b) == body for b in opened.bodies)


def test_encrypted_bodies_of_many_devices_are_decrypted_together():
    rnd = random.Random(SEED)
    secrets = {f"dev-{i}": DeviceKey(rnd.randbytes(32), i) for i in range(7)}
    records, bodies = [], []
    for i in range(500):
        device = rnd.choice([*secrets])
        key = secrets[device]
        channel = frame.Channel(key.secret, device.encode(), epoch=key.epoch)
        body = rnd.randbytes(rnd.choice((0, 1, 15, 16, 17, 200, 1011)))
        buf = bytearray(frame.HEADER_BYTES) + body + bytes(m.TAG_BYTES)
        end = channel.seal_into(buf, m.POSITION_BATCH, i, frame.HEADER_BYTES + len(body)) - m.TAG_BYTES
        assert buf[1] >> 4 & m.FLAG_ENCRYPTED
        if rnd.random() < 0.2:
            buf[1] &= ~(m.FLAG_ENCRYPTED << 4)
            buf[frame.HEADER_BYTES : end] = body
            buf[end:] = key_derivation.hmac(channel.pads, channel.context, buf[:end])[: m.TAG_BYTES]
        records.append(Record(0, device, bytes(buf)))
        bodies.append(body)
    opened = BatchOpener(secrets).open(records)
    assert set(opened.outcomes) == {""} and [bytes(body) for body in opened.bodies] == bodies


def test_the_c_codec_is_used_where_it_is_installed_in_the_same_version(extension, monkeypatch):
    monkeypatch.setitem(sys.modules, "patrolink_codec", extension)
    assert isinstance(batch_decoder.parts_decoder(), ExtensionDecoder)
    for other in (None, SimpleNamespace(VERSION="0.0.1")):
        monkeypatch.setitem(sys.modules, "patrolink_codec", other)
        assert isinstance(batch_decoder.parts_decoder(), batch_columns.NumpyDecoder)


def test_the_c_codec_refuses_ends_outside_the_data(extension):
    for ends in ([3], [2, 1], [1, 2, 3]):
        with pytest.raises(ValueError, match="must ascend within the data"):
            extension.decode_batches(b"ab", np.array(ends, np.uint32).tobytes())
    assert extension.decode_batches(b"", b"") == (b"",) * (1 + len(batch_decoder.NAMES))
