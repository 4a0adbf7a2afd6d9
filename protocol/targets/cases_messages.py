"""Vectors of scalar messages: limits, unknown values, bodies that are too short, fields out of range."""

import random
from typing import Any

from patrolink_protocol import codec

from .model import TEXTS, Field, Message
from .vectors import Builder


def _value(f: Field, which: str, rnd: random.Random) -> Any:
    if f.type in TEXTS:
        n = {"low": f.low, "high": f.high}.get(which, rnd.randint(f.low, f.high))
        if f.type == "bytes":
            return rnd.randbytes(n)
        return (("é" * (n // 2)) + "x" * (n % 2)).encode() if which == "high" else ("patrol " * 40)[:n].encode()
    if which == "unknown" and f.unknown is not None:
        return None
    return {"low": f.low, "high": f.high}.get(which, rnd.randint(f.low, f.high))


def _encoded(message: Message, values: dict[str, Any]) -> bytes:
    buf = bytearray(2048)
    return bytes(buf[: codec.encode_into(message.type, values, buf, 0)])


def _wire(f: Field, value: int) -> bytes:
    return (value & ((1 << 8 * f.size) - 1)).to_bytes(f.size, "big")


def some_body(message: Message) -> bytes:
    """Return a body with random legal values."""
    rnd = random.Random(message.type)
    return _encoded(message, {f.name: _value(f, "some", rnd) for f in message.fields or ()})


def add(build: Builder, message: Message) -> None:
    """Add the vectors of a message."""
    rnd = random.Random(message.type)
    name, req, kind = message.name, message.req, message.type
    fields = message.fields or ()
    for which in ("low", "high", "unknown", "some"):
        if which == "unknown" and all(f.unknown is None for f in fields):
            continue
        values = {f.name: _value(f, which, rnd) for f in fields}
        build.body(f"{name}-{which}", req, f"every field: {which}", kind, _encoded(message, values))
    some = {f.name: _value(f, "some", rnd) for f in fields}
    good = _encoded(message, some)
    build.body(f"{name}-later", [req, "BODY-4"], "three bytes of a later minor version", kind, good + b"\x01\x02\x03")
    build.body(f"{name}-short", [req, "BODY-1"], "the last byte is missing", kind, good[:-1], "length")
    build.body(f"{name}-empty", [req, "BODY-1"], "no body at all", kind, b"", "length")
    at = 0
    for f in fields:
        size = f.size + (len(some[f.name]) if f.type in TEXTS else 0)
        before, after = good[:at], good[at + size :]
        at += size
        if f.type in TEXTS:
            lengths = [f.high + 1] * (f.high + 1 < 1 << 8 * f.size) + [f.low - 1] * (f.low > 0)
            wrong = [n.to_bytes(f.size, "big") + bytes(n) for n in lengths]
            build.body(
                f"{name}-{f.name}-cut",
                [req, "BODY-1"],
                f"{f.name} says more bytes than there are",
                kind,
                before + b"\xff" * f.size,
                "length",
            )
            if f.type == "str":
                latin = before + b"\x02\xc3\x28" + after
                build.body(f"{name}-{f.name}-utf8", [req, "BODY-3"], f"{f.name} is not UTF-8", kind, latin, "range")
        else:
            wide = range(-(1 << 8 * f.size - 1), 1 << 8 * f.size - 1) if f.type[0] == "i" else range(1 << 8 * f.size)
            wrong = [_wire(f, v) for v in (f.low - 1, f.high + 1) if v in wide and v != f.unknown]
        for i, raw in enumerate(wrong):
            text = f"{f.name} {'below' if i == 0 and len(wrong) > 1 else 'outside'} its range"
            build.body(f"{name}-{f.name}-range-{i}", [req, "BODY-2"], text, kind, before + raw + after, "range")
