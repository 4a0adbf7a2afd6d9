"""What a right codec answers to the requests of the line protocol in order; see protocol/vectors/README.md."""

import json
from typing import Any

import patrolink_messages as m
from patrolink_protocol import codec, decode, tail, track_decoder
from patrolink_protocol.errors import RejectError
from patrolink_protocol.frame import HEADER_BYTES, Channel, parse_header
from patrolink_protocol.receiver import Receiver

from patrolink.conformance import reference
from patrolink.conformance.frames import TAIL
from patrolink.transport.serial_line import FrameUnpacker, pack_frame

_REFUSED = "range length type"  # the reason for which an encoder refuses is its own
_BUFFER_BYTES = 1 << 14


class ReferenceSession:
    """Answers requests; its state is that of one codec on a pipe."""

    def __init__(self) -> None:
        self._receiver: Receiver | None = None
        self._unpacker = FrameUnpacker()

    def answer(self, line: str) -> dict[str, Any] | str | None:
        """Return the answer, or the reasons of a refusal of which any is right.

        None: the request has no answer (R), or the reference does not judge it (B: encoders may differ; V).
        """
        letter, _, rest = line.partition(" ")
        if letter == "F":
            return reference.answer(line)
        if letter == "R":
            digits, device, direction, epoch = rest.split(" ")
            known = digits != "-"
            self._receiver = (
                Receiver(bytes.fromhex(digits), device.encode(), int(direction), int(epoch)) if known else None
            )
        if letter == "S":
            return {"step": self._step(bytes.fromhex(rest.replace("-", "")))}
        if letter == "E":
            return _encoded(rest)
        if letter == "P":
            return {"packet": pack_frame(bytes.fromhex(rest.replace("-", ""))).hex()}
        if letter == "U":
            invalid = self._unpacker.invalid
            frames = self._unpacker.feed(bytes.fromhex(rest.replace("-", "")))
            return {"frames": [frame.hex() for frame in frames], "invalid": self._unpacker.invalid - invalid}
        return None

    def _step(self, data: bytes) -> str:
        try:
            parse_header(data)
            if self._receiver is None:
                raise RejectError("key")
            kind, _, repeated = self._receiver.accept(data)
            if repeated:
                return "repeated"
            body, _ = self._receiver.read(data)
            track_decoder.decode_columns(body) if kind == m.POSITION_BATCH else decode.decode(kind, body)
        except RejectError as e:
            return str(e.name)
        return "accepted"


def _encoded(rest: str) -> dict[str, Any] | str:
    """Return the answer to a request E."""
    digits, device, direction, epoch, counter, flags, kind, text = rest.split(" ", 7)
    message = json.loads(text)
    buf = bytearray(_BUFFER_BYTES)
    try:
        end = codec.encode_into(int(kind), _fields(int(kind), message), buf, HEADER_BYTES)
        with_tail = bool(int(flags) & TAIL)
        if with_tail:
            extensions = [(number & 127, number >> 7, bytes.fromhex(value)) for number, value in message["extensions"]]
            end = tail.write_into(buf, end, extensions)
        channel = Channel(bytes.fromhex(digits), device.encode(), int(direction), int(epoch))
        n = channel.seal_into(buf, int(kind), int(counter), end, with_tail)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
        return _REFUSED
    return {"frame": bytes(buf[:n]).hex()} if n <= m.MAX_FRAME else _REFUSED


def _fields(kind: int, message: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a message as its encoder takes them.

    Raises:
        ValueError: It has other fields than its type.
    """
    letters = dict(spec.split(":")[:2] for spec in codec.message_spec(kind)[1:])
    if message.keys() - {"message", "extensions"} != letters.keys():
        raise ValueError("other fields")
    parse = {"s": str.encode, "x": bytes.fromhex}
    return {name: parse.get(letter, lambda value: value)(message[name]) for name, letter in letters.items()}
