"""Frames: lengths, versions, tags, flags and types (SPEC.md, "Frame")."""

from typing import Any

import patrolink_messages as m

from patrolink.conformance.case import Case
from patrolink.conformance.cases.bodies import baselines, direction, pack
from patrolink.conformance.expect import decoded, stepped
from patrolink.conformance.frames import (
    DEVICE,
    DOWN,
    ENCRYPTED,
    PHASE,
    RESERVED,
    SECRET,
    SHORT_BODY,
    SHORT_MESSAGE,
    TAIL,
    UP,
    answer,
    request,
    seal,
    tag_bytes,
)

KIND = m.TEXT_STATE
GOOD = seal(KIND, SHORT_BODY)
_COMMAND_BODY = bytes(4) + b"\x01" + (1_900_000_000_000).to_bytes(8, "big") + b"\x00" + bytes(4) + b"\x00\x00"
LONG_TAG = seal(m.COMMAND, _COMMAND_BODY, direction=DOWN)


def cases() -> list[Case]:
    """Return the cases."""
    return [*_lengths(), *_versions(), *_tags(), *_flags(), *_types(), *_keys(), *_key_parts()]


def _lengths() -> list[Case]:
    padded = [seal(KIND, SHORT_BODY + bytes(n)) for n in (1024 - 26 - 1, 1024 - 26)]
    short = [(request("F", bytes([m.VERSION << 5 | KIND]) + bytes(n - 1)), "length") for n in range(1, 13)]
    long = [
        (request("F", bytes([m.VERSION << 5 | kind]) + bytes(n - 1), direction), "length")
        for kind in range(20, 32)
        for n in (13, 20)
        for direction in (UP, DOWN)
    ]
    return [
        decoded("frames of 1 to 12 bytes", "FRAME-1", short),
        decoded("frames of 13 and 20 bytes of each type with a long tag", "FRAME-1", long),
        decoded(
            "frames of 1023 and 1024 bytes",
            "FRAME-1",
            [(request("F", frame), answer(KIND, SHORT_MESSAGE)) for frame in padded],
        ),
        decoded(
            "genuine frames of 1025, 1026 and 1100 bytes",
            "FRAME-1",
            [(request("F", seal(KIND, SHORT_BODY + bytes(n - 26))), "length") for n in (1025, 1026, 1100)],
        ),
        decoded(
            "the shortest genuine frame of a type with a long tag ends in its body",
            "BODY-1",
            [(request("F", seal(m.COMMAND, b"", direction=DOWN), DOWN), "length")],
        ),
        decoded(
            "the length is checked before the version, and the version before the length of a long tag",
            "FRAME-2",
            [
                (request("F", bytes([2 << 5 | KIND]) + bytes(11)), "length"),
                (request("F", bytes([2 << 5 | KIND]) + bytes(1024)), "length"),
                (request("F", bytes([2 << 5 | m.COMMAND]) + bytes(14)), "version"),
            ],
        ),
    ]


def _versions() -> list[Case]:
    others = [version for version in range(8) if version != m.VERSION]
    return [
        decoded(
            "genuine frames of each other version",
            "FRAME-2",
            [(request("F", seal(KIND, SHORT_BODY, version=version)), "version") for version in others],
        ),
        decoded(
            "frames of each other version whose tag is wrong",
            "FRAME-2",
            [(request("F", bytes([version << 5 | KIND]) + GOOD[1:]), "version") for version in others],
        ),
    ]


def _changed(frame: bytes, bit: int) -> bytes:
    data = bytearray(frame)
    data[bit >> 3] ^= 0x80 >> (bit & 7)
    return bytes(data)


def _tags() -> list[Case]:
    bits = [bit for bit in range(8 * len(GOOD)) if bit >= 8]
    long_bits = range(8 * (len(LONG_TAG) - m.LONG_TAG_BYTES), 8 * len(LONG_TAG))
    half = LONG_TAG[: -m.TAG_BYTES]
    return [
        decoded(
            "each bit after the type of a frame with a short tag, changed",
            "FRAME-3",
            [(request("F", _changed(GOOD, bit)), "tag") for bit in bits],
        ),
        decoded(
            "each bit of a long tag, changed",
            "FRAME-6",
            [(request("F", _changed(LONG_TAG, bit), DOWN), "tag") for bit in long_bits],
        ),
        decoded(
            "a long tag of which only the first 8 bytes are right",
            "FRAME-6",
            [(request("F", half + bytes(8), DOWN), "tag"), (request("F", half, DOWN), "tag")],
        ),
        decoded(
            "a short tag of which only the first or the last 4 bytes are right",
            "FRAME-3",
            [(request("F", GOOD[:-4] + bytes(4)), "tag"), (request("F", GOOD[:-8] + bytes(4) + GOOD[-4:]), "tag")],
        ),
        decoded(
            "a short tag at the end of 16 bytes",
            "FRAME-3",
            [(request("F", GOOD + bytes(8)), "tag"), (request("F", GOOD + GOOD[-8:]), "tag")],
        ),
        decoded(
            "a wrong tag decides before flags, type, tail and body",
            "FRAME-3",
            [
                (request("F", _changed(seal(kind, body, flags=flags), 8 * 5 + 8 * len(body) + 3)), "tag")
                for kind, body, flags in [(KIND, b"", 0), (0, b"", 0), (KIND, b"\xff", TAIL), (KIND, b"", RESERVED)]
            ],
        ),
    ]


def _flags() -> list[Case]:
    flags = [flag | more for flag in (RESERVED,) for more in (0, TAIL, ENCRYPTED, TAIL | ENCRYPTED)]
    return [
        decoded(
            "genuine frames with the reserved flag",
            "FRAME-4",
            [(request("F", seal(KIND, SHORT_BODY, flags=value)), "critical") for value in flags],
        ),
        decoded(
            "genuine frames of the wrong phase",
            "FRAME-4",
            [
                (request("F", seal(KIND, SHORT_BODY, direction=side, epoch=epoch, flip=PHASE), side, epoch), "critical")
                for side in (UP, DOWN)
                for epoch in (0, 1, 2, 4294967295)
            ],
        ),
        decoded(
            "the reserved flag decides before tail, type and body",
            "FRAME-4",
            [
                (request("F", seal(kind, body, flags=RESERVED | more)), "critical")
                for kind, body, more in [(KIND, b"\xff", TAIL), (0, b"", 0), (KIND, b"", 0)]
            ],
        ),
    ]


def _types() -> list[Case]:
    known = {side: [kind for kind in range(32) if mask >> kind & 1] for side, mask in ((UP, m.UP), (DOWN, m.DOWN))}
    title = {UP: "genuine frames to a host of each type that is not its own", DOWN: "the same to a device"}
    result = [
        decoded(
            title[side],
            "FRAME-5",
            [
                (request("F", seal(kind, b"body", direction=side), side), "type")
                for kind in range(32)
                if kind not in known[side]
            ],
        )
        for side in (UP, DOWN)
    ]
    order = [(0, b"\xff", TAIL, "length"), (0, b"\xc6\x00\x02", TAIL, "critical"), (31, b"", 0, "type")]
    return [
        *result,
        decoded(
            "a tail is checked before the type, and the type before the body",
            "FRAME-5",
            [(request("F", seal(kind, body, flags=flags)), reason) for kind, body, flags, reason in order],
        ),
        decoded(
            "a genuine frame of each known type has the tag of its number",
            "FRAME-6",
            [_whole(kind, message) for kind, message in baselines().items()],
        ),
        decoded(
            "unknown types have the tag of their number: cut to 8 bytes, types 29 to 31 are not genuine",
            "FRAME-6",
            [
                (request("F", seal(kind, b"a body of more than eight bytes")[: -tag_bytes(kind) + 8]), "tag")
                for kind in (29, 30, 31)
            ],
        ),
    ]


def _whole(kind: int, message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    side = direction(kind)
    return request("F", seal(kind, pack(kind, message), direction=side), side), answer(kind, message)


def _keys() -> list[Case]:
    names = ["vector-2", "vector-", "vector-12", "Vector-1", "v", "x" * 32]
    return [
        decoded(
            "frames of other devices under the same key",
            "KEY-1",
            [(request("F", seal(KIND, SHORT_BODY, device=name)), "tag") for name in names],
        ),
        decoded(
            "device ids of 1 and of 32 characters",
            "KEY-1",
            [
                (request("F", seal(KIND, SHORT_BODY, device=name), device=name), answer(KIND, SHORT_MESSAGE))
                for name in ("a", "Z", "0", "_", "-", "x" * 31, "abcdefghijklmnopqrstuvwxyz_-0123")
            ],
        ),
    ]


def _key_parts() -> list[Case]:
    other = bytes([SECRET[0] ^ 1]) + SECRET[1:]
    last = SECRET[:-1] + bytes([SECRET[-1] ^ 1])
    return [
        decoded(
            "device keys that differ in the first or the last bit",
            "KEY-1",
            [(request("F", seal(KIND, SHORT_BODY, secret=secret)), "tag") for secret in (other, last)],
        ),
        decoded(
            "frames sent back to their sender",
            "KEY-1",
            [(request("F", seal(KIND, SHORT_BODY, direction=1 - side), side), "tag") for side in (UP, DOWN)]
            + [
                (request("F", seal(KIND, SHORT_BODY, direction=side), side), answer(KIND, SHORT_MESSAGE))
                for side in (UP, DOWN)
            ],
        ),
        decoded(
            "the direction is in the key and in the input of the tag",
            "KEY-1",
            [
                (request("F", seal(KIND, SHORT_BODY, direction=side, label=b"patrolink-up-cipher"), side), "tag")
                for side in (UP, DOWN)
            ]
            + [
                (request("F", seal(KIND, SHORT_BODY, direction=side, tagged_direction=1 - side), side), "tag")
                for side in (UP, DOWN)
            ],
        ),
        decoded(
            "each byte of the epoch is in the key",
            "KEY-1",
            [(request("F", seal(KIND, SHORT_BODY, epoch=2 ^ 1 << bit), epoch=2), "tag") for bit in (2, 8, 16, 24, 31)]
            + [
                (request("F", seal(KIND, SHORT_BODY, epoch=epoch), epoch=epoch), answer(KIND, SHORT_MESSAGE))
                for epoch in (2, 256, 65536, 1 << 24, 0x80000000, 0x01020304)
            ],
        ),
        stepped(
            "a receiver without a key refuses what has a legal length and version",
            "FRAME-7",
            [(GOOD, "key"), (LONG_TAG, "key"), (GOOD[:12], "length"), (b"\x4f" + GOOD[1:], "version")],
            secret=b"",
        ),
        stepped(
            "genuine frames of both kinds of tag at a device",
            "FRAME-6",
            [(LONG_TAG[:-1] + b"\x00", "tag"), (LONG_TAG, "accepted"), (seal(KIND, SHORT_BODY, 2, DOWN), "accepted")],
            direction=DOWN,
            device=DEVICE,
        ),
    ]
