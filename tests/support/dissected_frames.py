"""Writes what tshark shows of one frame of each kind: python -m tests.support.dissected_frames FILE."""

import sys
import tempfile
from pathlib import Path

from targets import model, vectors

from tests.support import tshark
from tests.support.sealed_frames import DOWN, ENCRYPTED, KEY, TAIL, UP, Sender

_START_MS = 1_700_000_000_000
_ROWS = (
    [_START_MS, 311234600, 1211234700, 3, 12000, 1400, 35200, 4000, 9, 80],
    [_START_MS + 1000, 311234690, 1211234820, 3, 12000, 1440, 35400, 4000, 9, 80],
)
_INTEGERS = {"lat_e7": 311234600, "lon_e7": 1211234700, "signal_dbm": -97, "temperature_c": 31}
_TEXTS = {
    "board": "mps2_an385",
    "firmware": "1.0.0",
    "runtime": "MicroPython 1.29",
    "cell": "460-00-6311-52",
    "who": "Sergeant Li",
    "operator": "Sergeant Li",
    "sender": "Sergeant Li",
    "host": "hub.example",
}
_HEADING = """\
What tshark 4 shows of one frame of each kind, with a keys file. `make dissected` writes this file.
"""


def _value(f: model.Field, index: int) -> bytes:
    """Return the encoded value of a field; values of pairs are in order."""
    if f.type in model.TEXTS:
        text = _TEXTS.get(f.name, f.name).encode() if f.type == "str" else bytes(range(1, 41))
        text = text[: max(f.low, min(f.high, len(text)))] if f.type == "str" else text[: max(f.low, min(f.high, 8))]
        return len(text).to_bytes(f.size, "big") + text
    if f.names:
        value = sorted(f.names.values())[min(1, len(f.names) - 1)]
    elif f.bits:
        value = 5
    elif f.unit == "ms" and f.type == "u64":
        value = _START_MS + 1000 * index
    else:
        value = _INTEGERS.get(f.name, max(f.low, min(f.high, 60 - index)))
    return value.to_bytes(f.size, "big", signed=f.type.startswith("i"))


def _frames(schema: model.Schema) -> list[tuple[str, int, bytes]]:
    """Return title, direction and frame of each message, and of frames with something remarkable."""
    ends = {UP: Sender(direction=UP), DOWN: Sender(direction=DOWN)}
    frames: list[tuple[str, int, bytes]] = []
    for message in sorted(schema.messages, key=lambda message: message.type):
        direction = DOWN if message.direction == "down" else UP
        counter = 1 + sum(earlier == direction for _, earlier, _ in frames)
        body = b"".join(_value(f, i) for i, f in enumerate(message.fields or ()))
        flags = ENCRYPTED if message.confidential else 0
        frame = ends[direction].seal(message.type, counter, body or vectors.batch(list(_ROWS)), flags)
        frames.append((f"{message.name}, {message.direction}", direction, frame))
    hello = next(message for message in schema.messages if message.name == "hello")
    body = b"".join(_value(f, i) for i, f in enumerate(hello.fields or ()))
    damaged = bytearray(frames[0][2])
    damaged[9] ^= 1
    return [
        *frames,
        (
            "hello of a later minor version, with a tail",
            UP,
            ends[UP].seal(1, 40, body + b"\7\1\2id\4", TAIL),
        ),
        ("a frame that was received before", UP, frames[0][2]),
        ("a frame that was altered", UP, bytes(damaged)),
        ("a field outside its range", UP, ends[UP].seal(3, 41, b"\xee" * 60)),
    ]


def _carriages(frames: list[tuple[str, int, bytes]]) -> list[tuple[str, list[bytes], int]]:
    """Return title, packets and link type of captures with frames in MQTT and on a serial line."""
    first, second = frames[0][2], frames[1][2]
    stream = tshark.CONNECT + tshark.publish("p/vest-1/u", first) + tshark.publish("p/vest-1/u", second)
    segment = tshark.Connection().send(stream)
    return [
        (
            "an MQTT connection, with two frames in a segment",
            [segment],
            tshark.LINKTYPE_RAW_IP,
        ),
        ("a serial line", [tshark.serial(first) + b"\0"], tshark.LINKTYPE_USER1),
    ]


def text() -> str:
    """Return the text of the file."""
    frames = _frames(model.load(tshark.ROOT / "protocol" / "schema.toml"))
    packets = [tshark.pseudo("vest-1", direction, frame) for _, direction, frame in frames]
    captures = [*_carriages(frames), ("", packets, tshark.LINKTYPE_USER0)]
    titles = [title for title, _, _ in captures[:-1]] + [title for title, _, _ in frames]
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.toml"
        keys.write_text(f'[devices]\nvest-1 = "{KEY.hex()}"\n', encoding="utf-8")
        for _, contents, linktype in captures:
            path = tshark.write_pcap(Path(folder) / "frames.pcap", contents, linktype)
            out = tshark.run(path, *tshark.with_keys(keys), "-O", "patrolink,mqtt")
            shown += [part.strip("\n") for part in out.split("\n\n") if part.strip()]
    assert len(shown) == len(titles)
    # The line of a packet that states its size in bits says nothing about the protocol, and varies with the version.
    bodies = ["\n".join(line for line in part.splitlines() if not line.startswith("Frame ")) for part in shown]
    sections = [f"--- {title} ---\n{body}\n" for title, body in zip(titles, bodies, strict=True)]
    return "\n".join([_HEADING, *sections])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
