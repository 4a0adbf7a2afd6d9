"""All vectors under protocol/vectors with the codec of this runtime."""

import json

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import decode, frame, receiver, track_decoder
from patrolink_protocol.errors import RejectError

FOLDER = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
COLUMNS = ("time", "lat", "lon", "state", "alt", "speed", "course", "hacc", "sats", "battery")


def vectors(name):
    """Yield the vectors of a file one by one: a small heap cannot hold all of them."""
    with open(FOLDER + "/../../protocol/vectors/" + name) as f:
        for line in f:
            if line.startswith('{"id"'):
                yield json.loads(line.strip().rstrip(","))


def unhex(text):
    return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])


def tohex(data):
    return "".join(["%02x" % byte for byte in data])


def hex_bytes(message):
    for key in message:
        if isinstance(message[key], bytes):
            message[key] = tohex(message[key])
    return message


def rows(columns):
    out = []
    for i in range(len(columns["time"])):
        row = [columns[c][i] for c in COLUMNS]
        out.append([None if v == enums.UNKNOWN else v for v in row])
    return out


def run(vector, data):
    channel = frame.Channel(unhex(vector["key"]), vector["device"].encode(), vector["direction"], vector["epoch"])
    try:
        kind, counter, body, extensions = channel.open_frame(data)
        if kind == m.POSITION_BATCH:
            resolution, columns = track_decoder.decode_columns(body)
            message = {"message": "position_batch", "resolution": resolution, "rows": rows(columns)}
        else:
            message = hex_bytes(decode.decode(kind, body))
    except RejectError as e:
        return {"reject": e.name}
    extensions = [[e[0], tohex(e[2])] for e in extensions]
    return {"type": kind, "counter": counter, "extensions": extensions, "message": message}


def check_vector(vector):
    result = run(vector, unhex(vector["frame"]))
    for key in result:
        expected = vector.get(key)
        if key == "reject" and isinstance(expected, list):
            assert result[key] in expected, (vector["id"], result[key])
        else:
            assert expected == result[key], (vector["id"], key, result[key])


def check(name):
    n = 0
    for vector in vectors(name):
        check_vector(vector)
        n += 1
    return n


def test_frame_vectors():
    assert check("frames.json") > 40


def test_message_vectors():
    assert check("messages.json") > 200


def test_batch_vectors():
    assert check("batches.json") > 100


def receive(frames, data):
    try:
        kind, _, repeated = frames.accept(data)
        if repeated:
            return "repeated"
        body, _ = frames.read(data)
        decode.decode(kind, body)
    except RejectError as e:
        return e.name
    return "accepted"


def first_fault(vector):
    """Return the first step of a sequence whose result is wrong, and that result; None if all are right."""
    frames = receiver.Receiver(unhex(vector["key"]), vector["device"].encode(), vector["direction"], vector["epoch"])
    for i, step in enumerate(vector["steps"]):
        outcome = receive(frames, unhex(step["frame"]))
        if outcome != step["expect"]:
            return i, outcome
    return None


def test_sequence_vectors():
    for vector in vectors("sequences.json"):
        # A receiver needs a key; test_conformance.py tests the vectors without one with the host's decoder.
        assert vector["key"] is None or first_fault(vector) is None, (vector["id"], first_fault(vector))


def test_truncated_and_flipped_frames_are_refused():
    """Short frames only; tests/protocol covers all frames."""
    for vector in vectors("frames.json"):
        data = unhex(vector["frame"])
        if "reject" in vector or len(data) > 60:
            continue
        for n in range(len(data)):
            assert run(vector, data[:n]).get("reject") in ("length", "tag"), vector["id"]
        for bit in range(0, len(data) * 8, 3):
            bad = bytearray(data)
            bad[bit >> 3] ^= 1 << (bit & 7)
            assert run(vector, bytes(bad)).get("reject") in ("length", "tag", "version"), vector["id"]
