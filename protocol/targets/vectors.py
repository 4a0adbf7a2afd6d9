"""Tools to build vectors: hand-coded bits, authentic frames with faults, and a builder that asks the codec.

The cases are in cases.py, cases_messages.py and cases_batches.py.
"""

import random
import struct
from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import decode, frame, key_derivation, track_decoder, track_encoder
from patrolink_protocol.errors import RejectError

from .model import SchemaError

KEY = bytes(range(32))
DEVICE = "vector-1"
OTHER_DEVICE = "Vector_2-with-an-id-of-32-chars0"
U = enums.UNKNOWN
Vector = dict[str, Any]
Reject = str | list[str] | None
COLUMNS = ("time_ms", "lat", "lon", "state", "alt", "speed", "course", "hacc", "sats", "battery")


class BitWriter:
    """A bit stream as a string of 0 and 1: slow, simple, and independent of the codec that it tests."""

    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, n: int) -> "BitWriter":
        """Append the n low bits of a value."""
        self.bits += format(value & ((1 << n) - 1), f"0{n}b") if n else ""
        return self

    def eg(self, value: int, k: int) -> "BitWriter":
        """Append the Exp-Golomb code of order k."""
        n = (value + (1 << k)).bit_length()
        return self.put(0, n - k - 1).put(value + (1 << k), n)

    def body(self) -> bytes:
        """Return the stream, padded with zero bits."""
        text = self.bits + "0" * (-len(self.bits) % 8)
        return int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:]


def seal(kind: int, body: bytes, counter: int = 1, direction: int = 0, epoch: int = 0, **over: Any) -> bytes:
    """Return an authentic frame. A device with the key can tag any bytes correctly.

    Args:
        kind: Message type.
        body: The body, or what a faulty device sends in its place.
        counter: Frame counter.
        direction: 0 up, 1 down.
        epoch: Key epoch.
        **over: device; extensions; tail: whether the body ends with a tail; encrypted: whether both are encrypted;
            flags to be set beside those; version.
    """
    channel = frame.Channel(KEY, over.get("device", DEVICE).encode(), direction, epoch)
    flags = over.get("flags", 0) | (m.FLAG_PHASE if channel.phase else 0)
    buf = bytearray(4096)
    end = frame.HEADER_BYTES + len(body)
    buf[frame.HEADER_BYTES : end] = body
    if "extensions" in over:
        end = _write_tail(buf, end, over["extensions"])
    if "extensions" in over or over.get("tail", False):
        flags |= m.FLAG_TAIL
    if over.get("encrypted", False):
        flags |= m.FLAG_ENCRYPTED
    buf[0] = (over.get("version", m.VERSION) << 5) | kind
    struct.pack_into(">I", buf, 1, flags << m.COUNTER_BITS | counter)
    if over.get("encrypted", False):
        channel.cipher.apply(buf, buf, frame.HEADER_BYTES, end)
    data = bytes(buf[:end])
    tag: bytes = key_derivation.hmac(channel.pads, channel.context, data)[: frame.tag_bytes(kind)]
    return data + tag


def _write_tail(buf: bytearray, end: int, extensions: list[tuple[int, int, bytes]]) -> int:
    """Append a tail without the checks of `tail.write_into`, and return the offset after it."""
    raw = b"".join(bytes([kind | critical << 7, len(value)]) + value for kind, critical, value in extensions)
    raw += bytes([len(raw)])
    buf[end : end + len(raw)] = raw
    return end + len(raw)


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return a decoded message for JSON: bytes as hex digits."""
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in message.items()}


class Builder:
    """Collects vectors and checks each one with the codec."""

    def __init__(self) -> None:
        self.vectors: list[Vector] = []

    def add(self, name: str, req: str | list[str], about: str, data: bytes, reject: Reject = None, **at: Any) -> None:
        """Add a vector of a frame.

        Args:
            name: Id of the vector.
            req: Requirements that it tests.
            about: Description.
            data: The frame.
            reject: Name of the reason for which it must be refused, or a list of reasons that are all right; None if it
                must be accepted.
            **at: direction, epoch and device of the receiver.

        Raises:
            SchemaError: the codec disagrees.
        """
        direction, epoch, device = at.get("direction", 0), at.get("epoch", 0), at.get("device", DEVICE)
        vector: Vector = {
            "id": name,
            "req": [req] if isinstance(req, str) else req,
            "about": about,
            "key": KEY.hex(),
            "device": device,
            "direction": direction,
            "epoch": epoch,
            "frame": data.hex(),
        }
        got = run(data, direction, epoch, device=device)
        if got.get("reject") not in (reject if isinstance(reject, list) else [reject]):
            raise SchemaError(f"vector {name}: the codec returns {got} instead of {reject}")
        self.vectors.append({**vector, **(got if reject is None else {"reject": reject})})

    def body(self, name: str, req: str | list[str], about: str, kind: int, body: bytes, reject: Reject = None) -> None:
        """Add a vector of an authentic frame with this body; arguments as in `add`."""
        direction = 0 if m.UP >> kind & 1 else 1
        self.add(name, req, about, seal(kind, body, direction=direction), reject, direction=direction)


def run(data: bytes, direction: int = 0, epoch: int = 0, key: bytes = KEY, device: str = DEVICE) -> dict[str, Any]:
    """Return the result of a receiver: {"reject"} or {"type", "counter", "extensions", "message"}."""
    try:
        kind, counter, body, extensions = frame.Channel(key, device.encode(), direction, epoch).open_frame(data)
        if kind == m.POSITION_BATCH:
            resolution, columns = track_decoder.decode_columns(body)
            rows = [
                [None if v == U else v for v in row]
                for row in zip(*(columns["time" if c == "time_ms" else c] for c in COLUMNS), strict=True)
            ]
            message: dict[str, Any] = {"message": "position_batch", "resolution": resolution, "rows": rows}
        else:
            message = plain(decode.decode(kind, body))
    except RejectError as e:
        return {"reject": e.name}
    return {
        "type": kind,
        "counter": counter,
        "extensions": [[kind, value.hex()] for kind, _, value in extensions],
        "message": message,
    }


def time_sync() -> bytes:
    """Return the body of a time_sync."""
    return struct.pack(">QQQ", 1700000000123, 0, 0)


def walk(n: int, seed: int, **change: Any) -> list[list[int]]:
    """Return seeded rows of [time_ms, lat, lon, state, alt, speed, course, hacc, sats, battery]."""
    rnd = random.Random(seed)
    t, lat, lon, alt, course = 1700000000000, 311234567, 1211234567, 12000, 35000
    rows = []
    for i in range(n):
        t += change.get("step_ms", 1000)
        lat += 90 + rnd.randint(-30, 30)
        lon += 120 + rnd.randint(-30, 30)
        alt += rnd.choice((-500, 0, 0, 0, 500))
        course = (course + rnd.randint(-900, 1200)) % 36000
        rows.append([t, lat, lon, 3, alt, 1440 + rnd.randint(-90, 90), course, 4000 + i * 20, 9 + i // 20, 80])
    return rows


def batch(rows: list[list[int]], resolution: int = 6, rice: bool = True, omit: tuple[str, ...] = ()) -> bytes:
    """Return the body of a batch from the encoder of the codec."""
    encoder = track_encoder.TrackEncoder(len(rows), resolution, rice, omit)
    for t, *row in rows:
        encoder.add(t // 86400000, t % 86400000, row)
    buf = bytearray(8192)
    return bytes(buf[: encoder.encode_into(buf, 0, len(rows))])
