"""Vectors of scalar messages: limits, unknown values, bodies that are too short, fields out of range."""

import random
from typing import Any

import patrolink_messages as m
from patrolink_protocol import codec

from .model import TEXTS, Field, Message
from .vectors import Builder


def _value(f: Field, which: str, rnd: random.Random) -> Any:
    if which == "unknown" and f.unknown is not None:
        return None
    if f.type in TEXTS:
        n = {"low": f.low, "high": f.high}.get(which, rnd.randint(f.low, f.high))
        if f.type == "bytes":
            return rnd.randbytes(n)
        return (("é" * (n // 2)) + "x" * (n % 2)).encode() if which == "high" else ("patrol " * 40)[:n].encode()
    return {"low": f.low, "high": f.high}.get(which, rnd.randint(f.low, f.high))


def _values(message: Message, which: str, rnd: random.Random) -> dict[str, Any]:
    """Return legal values of all fields."""
    fields = message.fields or ()
    values = {f.name: _value(f, which, rnd) for f in fields}
    for pair in message.pairs:
        if pair.ordered:
            first, second = fields[pair.first].name, fields[pair.second].name
            if values[first] is not None:
                values[first], values[second] = sorted((values[first], values[second]))
    return values


def _encoded(message: Message, values: dict[str, Any]) -> bytes:
    buf = bytearray(2048)
    return bytes(buf[: codec.encode_into(message.type, values, buf, 0)])


def _wire(f: Field, value: int) -> bytes:
    return (value & ((1 << 8 * f.size) - 1)).to_bytes(f.size, "big")


def some_body(message: Message) -> bytes:
    """Return a body with random legal values."""
    rnd = random.Random(message.type)
    return _encoded(message, _values(message, "some", rnd))


def add(build: Builder, message: Message) -> None:
    """Add the vectors of a message."""
    rnd = random.Random(message.type)
    name, req, kind = message.name, message.req, message.type
    fields = message.fields or ()
    for which in ("low", "high", "unknown", "some"):
        if which == "unknown" and all(f.unknown is None for f in fields):
            continue
        values = _values(message, which, rnd)
        build.body(f"{name}-{which}", req, f"every field: {which}", kind, _encoded(message, values))
    some = _values(message, "some", rnd)
    good = _encoded(message, some)
    build.body(f"{name}-later", [req, "BODY-4"], "three bytes of a later minor version", kind, good + b"\x01\x02\x03")
    build.body(f"{name}-short", [req, "BODY-1"], "the last byte is missing", kind, good[:-1], "length")
    build.body(f"{name}-empty", [req, "BODY-1"], "no body at all", kind, b"", "length")
    _add_pairs(build, message, some)
    _add_fields(build, message, some)


def _add_fields(build: Builder, message: Message, some: dict[str, Any]) -> None:
    """Add vectors in which one field is cut off or outside its range."""
    name, req, kind, good = message.name, message.req, message.type, _encoded(message, some)
    fields = message.fields or ()
    at = 0
    for f in fields:
        size = f.size + (len(some[f.name]) if f.type in TEXTS else 0)
        before, after = good[:at], good[at + size :]
        at += size
        if f.type in TEXTS:
            lengths = [f.high + 1] * (f.high + 1 < 1 << 8 * f.size)
            lengths += [n for n in (f.low - 1, 0) if n >= 0 and n < f.low and n != f.unknown]
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


def _add_pairs(build: Builder, message: Message, some: dict[str, Any]) -> None:
    """Add vectors of pairs of fields: contradictory ones, and the limit of an order."""
    fields = message.fields or ()
    for number, pair in enumerate(message.pairs):
        first, second = fields[pair.first], fields[pair.second]
        name, reqs = f"{message.name}-pair-{number}", [message.req, "BODY-5"]
        if pair.ordered:
            low = max(first.low, second.low) + 5
            for offset, which, reject in ((0, "equal", None), (1, "reversed", "range")):
                body = _patched(message, some, {first.name: low + offset, second.name: low})
                about = f"{first.name} {'equals' if offset == 0 else 'is greater than'} {second.name}"
                build.body(f"{name}-{which}", reqs, about, message.type, body, reject)
            continue
        for known, unknown in ((first, second), (second, first)):
            body = _patched(message, some, {unknown.name: None})
            about = f"{known.name} without {unknown.name}"
            build.body(f"{name}-{known.name}-alone", reqs, about, message.type, body, "range")


def _patched(message: Message, some: dict[str, Any], changes: dict[str, int | None]) -> bytes:
    """Return the body of a message in which some fields have another value, which may contradict others."""
    parts = []
    for f in message.fields or ():
        value = changes.get(f.name, some[f.name])
        if f.type in TEXTS:
            text = value or b""
            parts.append(len(text).to_bytes(f.size, "big") + text)
        else:
            parts.append(_wire(f, f.unknown or 0 if value is None else value))
    return b"".join(parts)


def add_order(build: Builder) -> None:
    """Add vectors of bodies with two faults, of which the first decides, and of UTF-8."""
    state, text_id = bytes(4), b"\0\0\0\1"
    build.body("order-range-first", "BODY-6", "state 0, then the body ends", m.TEXT_STATE, state + b"\0", "range")
    build.body("order-length-first", "BODY-6", "the body ends in text_id", m.TEXT_STATE, b"\0\0", "length")
    head = text_id + bytes(8) + b"\0\0" + b"\x80\0\0\0" * 2
    cut = head + b"\x02\xff\xff\x05ab"
    build.body("order-utf8-first", "BODY-6", "sender is not UTF-8, and text is cut", m.TEXT, cut, "range")
    long = head + b"\x29" + b"\xff" * 40
    build.body("order-missing-bytes-first", "BODY-6", "sender is too long and cut", m.TEXT, long, "length")
    for name, data, about, reject in (
        ("bom", b"\xef\xbb\xbfOK", "a byte order mark is part of the text", None),
        ("four-bytes", "\U0010ffff".encode(), "the last code point", None),
        ("overlong", b"\xc0\xaf", "an overlong form of /", "range"),
        ("overlong-3", b"\xe0\x9f\xbf", "an overlong form of three bytes", "range"),
        ("surrogate", b"\xed\xa0\x80", "a surrogate", "range"),
        ("beyond", b"\xf4\x90\x80\x80", "beyond U+10FFFF", "range"),
        ("cut", b"\xe2\x82", "a sequence that is cut", "range"),
    ):
        body = head + b"\0" + bytes([len(data)]) + data
        build.body(f"utf8-{name}", "BODY-3", about, m.TEXT, body, reject)
    body = head + b"\0\x03A\0B"
    build.body("utf8-nul", "BODY-3", "a zero byte is a character", m.TEXT, body)
