"""Bodies of messages: each field at its limits, cut bodies, bytes of later versions, text (SPEC.md, "Messages")."""

import struct
from typing import Any

import patrolink_messages as m
from patrolink_protocol.codec import message_spec, parse_field

from patrolink.conformance.case import Case, Context
from patrolink.conformance.cases.vectors import load
from patrolink.conformance.expect import as_reference, decoded
from patrolink.conformance.frames import DOWN, HEADER_BYTES, UP, answer, request, seal, tag_bytes

_SIZES = {"b": 8, "B": 8, "h": 16, "H": 16, "i": 32, "I": 32, "q": 64, "Q": 64}
_RANDOM_FRAMES = 40
# RFC 3629: overlong forms, surrogates, beyond U+10FFFF, lone and missing continuations.
NOT_UTF8 = [
    *(b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2\x20", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe2\x82"),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80"),
    *(b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff", b"\xfe", b"a\xe2\x82b", b"\xf0\x9f\x98"),
]  # fmt: skip
UTF8 = [
    "\ufeffx",
    "\u0000",
    "\x7f",
    "\u0080",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
]
Values = dict[str, Any]


def cases() -> list[Case]:
    """Return the cases."""
    result = []
    for kind, baseline in baselines().items():
        result += _of_message(kind, baseline)
    return [*result, _pairs(), *_text(), *_order()]


def baselines() -> dict[int, Values]:
    """Return type → legal values of each scalar message, from the vectors."""
    messages = {}
    for vector in load("messages.json"):
        if vector["id"].endswith("-some") and "reject" not in vector:
            messages[vector["type"]] = vector["message"]
    return messages


def fields(kind: int) -> list[tuple[str, str, int, int, int, int | None]]:
    """Return (name, letter, size, min, max, unknown) of each field; "s" is str, "x" bytes."""
    return [parse_field(spec) for spec in message_spec(kind)[1:]]


def direction(kind: int) -> int:
    """Return a direction that a type is allowed in."""
    return UP if m.UP >> kind & 1 else DOWN


def pack(kind: int, values: Values, stop: str = "", raw: bytes | None = None) -> bytes:
    """Return a body; at the field `stop` it has `raw` instead, and goes on after it."""
    parts = []
    for name, letter, size, _, _, unknown in fields(kind):
        value = values[name]
        if name == stop and raw is not None:
            parts.append(raw)
        elif letter in "sx":
            data = value.encode() if letter == "s" else bytes.fromhex(value)
            parts.append(len(data).to_bytes(size, "big") + data)
        else:
            parts.append(struct.pack(">" + letter, unknown if value is None else value))
    return b"".join(parts)


def _ask(kind: int, body: bytes) -> str:
    side = direction(kind)
    return request("F", seal(kind, body, direction=side), side)


def _edges(letter: str, low: int, high: int, unknown: int | None) -> list[int]:
    """Return values around the limits of an integer field that its bits can hold."""
    width = _SIZES[letter]
    least, most = (-(1 << width - 1), (1 << width - 1) - 1) if letter.islower() else (0, (1 << width) - 1)
    near = {low - 1, low, low + 1, high - 1, high, high + 1, least, most, (low + high) // 2}
    return sorted(value for value in near | ({unknown} if unknown is not None else set()) if least <= value <= most)


def _of_message(kind: int, baseline: Values) -> list[Case]:
    name = baseline["message"]
    requirement = next(v["req"][0] for v in load("messages.json") if v["id"] == f"{name}-some")
    body = pack(kind, baseline)
    room = 1024 - HEADER_BYTES - tag_bytes(kind) - len(body)
    limits = [
        _ask(kind, pack(kind, baseline, field, struct.pack(">" + letter, value)))
        for field, letter, _, low, high, unknown in fields(kind)
        if letter not in "sx"
        for value in _edges(letter, low, high, unknown)
    ]
    lengths = [
        _ask(kind, pack(kind, baseline, field, count.to_bytes(size, "big") + b"a" * count))
        for field, letter, size, low, high, _ in fields(kind)
        if letter in "sx"
        for count in sorted({max(low - 1, 0), low, low + 1, high - 1, high, high + 1})
        if count < 1 << 8 * size and len(body) + count <= 1000
    ]
    later = [b"\x00", b"\xff", bytes(min(room, 40)), b"\xa5" * room]

    def damaged(context: Context) -> list[str]:
        random = context.random()
        result = []
        for _ in range(_RANDOM_FRAMES):
            data = bytearray(body)
            for _ in range(random.choice((1, 1, 2, 8))):
                data[random.randrange(len(data))] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
            result.append(
                _ask(kind, bytes(data[: random.choice((len(data), len(data), random.randrange(len(data)))) or 1]))
            )
        return result

    result = [
        decoded(
            f"{name}: the body ends at each byte",
            "BODY-1",
            [(_ask(kind, body[:n]), "length") for n in _cuts(kind, baseline)],
        ),
        decoded(
            f"{name}: bytes of a later version",
            "BODY-4",
            [(_ask(kind, body + more), answer(kind, baseline)) for more in later],
        ),
        as_reference(f"{name}: random damage", requirement, damaged),
    ]
    if limits:
        result.append(as_reference(f"{name}: integers around their limits", "BODY-2", lambda context: limits))
    if lengths:
        result.append(
            as_reference(f"{name}: lengths of str and bytes around their limits", "BODY-2", lambda c: lengths)
        )
    return result


def _cuts(kind: int, values: Values) -> list[int]:
    """Return the lengths at which a body must not end: all below its own."""
    return list(range(len(pack(kind, values))))


def _pairs() -> Case:
    """Return a case of fields that contradict each other, and of their limits."""
    pairs: list[tuple[str, Values | str]] = []
    for kind, baseline in baselines().items():
        for first, second in (("lat_e7", "lon_e7"), ("receive_ms", "transmit_ms")):
            if first in baseline and second in baseline:
                for alone, other in ((first, second), (second, first)):
                    values = {**baseline, alone: 1, other: None}
                    pairs.append((_ask(kind, pack(kind, values)), "range"))
                neither = {**baseline, first: None, second: None}
                pairs.append((_ask(kind, pack(kind, neither)), answer(kind, neither)))
        for low, high in (("lost", "packets"), ("start_ms", "end_ms"), ("pre_event_ms", "duration_ms")):
            if low in baseline and high in baseline:
                equal = {**baseline, low: 900, high: 900}
                pairs.append((_ask(kind, pack(kind, equal)), answer(kind, equal)))
                pairs.append((_ask(kind, pack(kind, {**equal, low: 901})), "range"))
    return decoded("pairs of fields that contradict each other", "BODY-5", pairs)


def _text() -> list[Case]:
    """Return cases of UTF-8, in the text message and in a field of each other one."""
    base = baselines()
    bad, good = [], []
    for kind, values in base.items():
        for field, letter, size, _, high, _ in fields(kind):
            if letter != "s":
                continue
            samples = NOT_UTF8 if kind == m.TEXT else NOT_UTF8[:3] + NOT_UTF8[9:12]
            for data in samples:
                bad.append((_ask(kind, pack(kind, values, field, len(data).to_bytes(size, "big") + data)), "range"))
            texts = [text for text in UTF8 if len(text.encode()) <= high]
            good += [
                (_ask(kind, pack(kind, {**values, field: text})), answer(kind, {**values, field: text}))
                for text in texts
            ]
    return [
        decoded("text that is not UTF-8, in every field of text", "BODY-3", bad),
        decoded("the first and last characters of each length of UTF-8, in every field of text", "BODY-3", good),
    ]


def _order() -> list[Case]:
    """Return cases in which two fields are wrong: the first one decides."""
    base = baselines()[m.TEXT]
    body = pack(m.TEXT, base)
    at = 4 + 8  # priority
    wrong = body[:at] + b"\x09" + body[at + 1 :]
    text = b"\xf1" + b"a" * 241
    return [
        decoded(
            "the first wrong field decides",
            "BODY-2",
            [
                (_ask(m.TEXT, wrong[: at + 1]), "range"),
                (_ask(m.TEXT, wrong[:at]), "length"),
                (_ask(m.TEXT, pack(m.TEXT, base, "sender", b"\x02\xff\xff") + b""), "range"),
            ],
        ),
        decoded(
            "a length of str over its maximum: `length` if the bytes are not there, else `range`",
            "BODY-1",
            [
                (_ask(m.TEXT, pack(m.TEXT, base, "text", text)), "range"),
                (_ask(m.TEXT, pack(m.TEXT, base, "text", text[:-1])), "length"),
                (_ask(m.TEXT, pack(m.TEXT, base, "text", b"\xff")), "length"),
                (_ask(m.TEXT, pack(m.TEXT, base, "text", b"\x02\xff")), "length"),
            ],
        ),
        decoded(
            "integers are big-endian, and the upper bits count",
            "BODY-2",
            [
                (_ask(m.TEXT, pack(m.TEXT, {**base, "text_id": value})), answer(m.TEXT, {**base, "text_id": value}))
                for value in (0, 1, 0x01020304, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
            ],
        ),
    ]
