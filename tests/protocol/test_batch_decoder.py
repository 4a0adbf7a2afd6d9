"""The batch decoder and the scalar decoder agree on valid bodies, damaged ones and noise."""

import json
import random
from pathlib import Path

import numpy as np
import patrolink_messages as m
from patrolink.core import batch_decoder
from patrolink_protocol import receiver, track_decoder
from patrolink_protocol.errors import RejectError
from targets import vectors

SEED = 20
VECTORS = Path(vectors.__file__).resolve().parent.parent / "vectors"


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


def check(bodies):
    columns, counts, refused = decode_one_by_one(bodies)
    batches = batch_decoder.decode(bodies)
    assert batches.rejected == refused
    assert batches.counts.tolist() == counts
    for name in batch_decoder.NAMES:
        assert batches.columns[name].tolist() == columns[name], name


def test_decoders_agree_on_every_batch_vector():
    bodies = [
        bytes.fromhex(v["frame"])[5:-8]
        for v in json.loads((VECTORS / "batches.json").read_text(encoding="utf-8"))["vectors"]
    ]
    check(bodies)
    # Enough copies for the vectorized path, with valid and invalid bodies mixed.
    check([body for body in bodies for _ in range(9)])


def test_decoders_agree_on_random_walks():
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


def test_decoders_agree_on_damaged_bodies():
    rnd = random.Random(SEED)
    good = [vectors.batch(vectors.walk(12, n % 5), rice=False) for n in range(40)]
    bodies = []
    for body in good * 40:
        bad = bytearray(body)
        for _ in range(rnd.choice((0, 1, 1, 2, 8))):
            bad[rnd.randrange(len(bad))] ^= 1 << rnd.randrange(8)
        bodies.append(bytes(bad[: rnd.choice((len(bad), len(bad), rnd.randrange(len(bad) + 1)))]))
    check(bodies)


def test_decoders_agree_on_noise_and_empty_bodies():
    rnd = random.Random(SEED)
    check([])
    check([b""] * 20)
    check([rnd.randbytes(rnd.randrange(200)) for _ in range(3000)])
    check([bytes([0x80 | rnd.randrange(64)]) + rnd.randbytes(60) for _ in range(1000)])


def test_outcomes_of_frames_equal_those_of_the_receiver():
    rnd = random.Random(SEED)
    body = vectors.batch(vectors.walk(3, 1))
    sync = bytes(7) + b"\x01" + bytes(16)
    frames = []
    for i in range(400):
        epoch = 1 if i > 300 else 0
        counter = rnd.choice((i, i, max(0, i - 5), i + 90000 * (i > 200)))
        kind = rnd.choice((m.POSITION_BATCH,) * 6 + (m.TIME_SYNC, 31))
        data = vectors.seal(kind, body if kind == m.POSITION_BATCH else sync, counter, epoch=epoch)
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
    bodies, indices, outcomes = batch_decoder.open_batches(
        receiver.Receiver(vectors.KEY, vectors.DEVICE.encode()), frames
    )
    assert outcomes == expected
    assert indices == [i for i, outcome in enumerate(expected) if not outcome]
    assert all(bytes(b) == body for b in bodies)
    assert isinstance(batch_decoder.decode(bodies).columns["lat"], np.ndarray)
