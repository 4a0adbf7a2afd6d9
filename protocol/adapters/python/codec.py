"""The codec line protocol (vectors/README.md) on patrolink_protocol; PYTHONPATH=protocol:protocol/generated."""

import json
import sys
from binascii import crc_hqx

from cobs import cobs
from json_messages import read, write
from patrolink_protocol import errors, frame, receiver

state = {"receiver": None, "line": b""}


def answer(letter, words):
    if letter in "FERB":
        make = receiver.Receiver if letter == "R" else frame.Channel
        key, device, direction, epoch, *words = [*words[:2], "0", *words[2:]] if letter == "B" else words
        channel = make(bytes.fromhex(key), device.encode(), int(direction), int(epoch)) if key != "-" else None
    data = bytes.fromhex(words[0].replace("-", "")) if letter in "FSPU" else b""
    if letter == "R":
        state["receiver"] = channel
        return None
    if letter == "F":
        kind, counter, body, extensions = channel.open_frame(data)
        shown = [[number, value.hex()] for number, _, value in extensions]
        return {"type": kind, "counter": counter, "extensions": shown, "message": read(kind, body)}
    if letter == "S":
        frame.parse_header(data)
        if state["receiver"] is None:
            raise errors.RejectError("key")
        kind, _, repeated = state["receiver"].accept(data)
        return {"step": "repeated" if repeated else read(kind, state["receiver"].read(data)[0]) and "accepted"}
    if letter in "EB":
        return write(channel, letter, [int(word) for word in words[:3]], json.loads(words[3]))
    if letter == "P":
        return {"packet": (cobs.encode(data + crc_hqx(data, 0xFFFF).to_bytes(2, "big")) + b"\0").hex()}
    if letter == "U":
        *blocks, state["line"] = (state["line"] + data).split(b"\0")
        frames = [unpack(block) for block in blocks if block]
        return {"frames": [data.hex() for data in frames if data], "invalid": frames.count(None)}
    known = {"protocol": "1.0", "codec": "patrolink_protocol", "rice": True}
    return known if letter == "V" else {"error": "not a request"}


def unpack(block):
    try:
        data = cobs.decode(block)
    except cobs.DecodeError:
        return None
    return data[:-2] if 2 < len(data) <= 1026 and crc_hqx(data, 0xFFFF) == 0 else None


for line in sys.stdin:
    letter, _, rest = line.rstrip("\n").partition(" ")
    try:
        result = answer(letter or "?", rest.split(" ", {"E": 7, "B": 6}.get(letter, 9)))
    except errors.RejectError as e:
        result = {"step" if letter == "S" else "reject": e.name}
    if result is not None:
        print(json.dumps(result), flush=True)
