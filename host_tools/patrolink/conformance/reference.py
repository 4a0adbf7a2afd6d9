"""The reference codec: what patrolink_protocol answers to requests of the codec line protocol."""

from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import decode, track_decoder
from patrolink_protocol.errors import RejectError
from patrolink_protocol.frame import Channel

COLUMNS = ("time", "lat", "lon", "state", "alt", "speed", "course", "hacc", "sats", "battery")


def answer(line: str) -> dict[str, Any]:
    """Return the answer to an F request, without "again".

    Raises:
        ValueError: It is no F request.
    """
    letter, secret, device, direction, epoch, frame = line.split(" ")
    if letter != "F":
        raise ValueError(f"not an F request: {line}")
    data = b"" if frame == "-" else bytes.fromhex(frame)
    return read(data, Channel(bytes.fromhex(secret), device.encode(), int(direction), int(epoch)))


def read(data: bytes, channel: Channel) -> dict[str, Any]:
    """Return the answer to a frame: {"reject"} or {"type", "counter", "extensions", "message"}."""
    try:
        kind, counter, body, extensions = channel.open_frame(data)
        message = batch(body) if kind == m.POSITION_BATCH else _plain(decode.decode(kind, body))
    except RejectError as e:
        return {"reject": e.name}
    tail = [[number, value.hex()] for number, _, value in extensions]
    return {"type": kind, "counter": counter, "extensions": tail, "message": message}


def batch(body: bytes) -> dict[str, Any]:
    """Return a decoded batch.

    Raises:
        RejectError: It is malformed.
    """
    resolution, columns = track_decoder.decode_columns(body)
    rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    values = [[None if value == enums.UNKNOWN else value for value in row] for row in rows]
    return {"message": "position_batch", "resolution": resolution, "rows": values}


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in message.items()}
