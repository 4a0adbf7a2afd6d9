"""Confidential bodies: AES-128 in counter mode under the tag (SPEC.md, "Confidential bodies")."""

import patrolink_messages as m

from patrolink.conformance.case import Case
from patrolink.conformance.cases.bodies import baselines, direction, pack
from patrolink.conformance.cases.encoding import Requests, confidential, encoded, sealed
from patrolink.conformance.cases.encoding import request as request_of
from patrolink.conformance.expect import decoded, stepped
from patrolink.conformance.frames import (
    COUNTER_MAX,
    DOWN,
    ENCRYPTED,
    SHORT_BODY,
    SHORT_MESSAGE,
    TAIL,
    UP,
    answer,
    request,
    seal,
    with_tail,
)

KIND = m.TEXT_STATE
_REQUIREMENT = "CONFIDENTIAL-1"


def cases() -> list[Case]:
    """Return the cases."""
    return [*_messages(), *_keys(), *_blocks(), *_order()]


def _messages() -> list[Case]:
    """Each type is read encrypted and in the clear: the flag decides, not the type."""
    pairs = []
    for kind, message in baselines().items():
        side = direction(kind)
        for flags in (0, ENCRYPTED):
            frame = seal(kind, pack(kind, message), direction=side, flags=flags)
            pairs.append((request("F", frame, side), answer(kind, message)))
    sent: Requests = [
        (request_of(kind, message), sealed(kind, pack(kind, message)))
        for kind, message in baselines().items()
        if confidential(kind)
    ]
    return [
        decoded("each message, encrypted and in the clear", _REQUIREMENT, pairs),
        encoded("a sender encrypts each confidential message", _REQUIREMENT, sent),
    ]


def _keys() -> list[Case]:
    where = [(side, epoch) for side in (UP, DOWN) for epoch in (0, 1, 2, 256, 65_536, 0x80000001, 4294967295)]
    counters = [0, 1, 15, 16, 255, 256, 65_536, 0x0ABCDEF1, COUNTER_MAX]
    return [
        decoded(
            "cipher keys of both directions and of many epochs",
            _REQUIREMENT,
            [
                (
                    request("F", seal(KIND, SHORT_BODY, 1, side, epoch, flags=ENCRYPTED), side, epoch),
                    answer(KIND, SHORT_MESSAGE),
                )
                for side, epoch in where
            ],
        ),
        decoded(
            "the counter of the frame is in the counter block",
            _REQUIREMENT,
            [
                (request("F", seal(KIND, SHORT_BODY, counter, flags=ENCRYPTED)), answer(KIND, SHORT_MESSAGE, counter))
                for counter in counters
            ],
        ),
        stepped(
            "encrypted frames, and then those of the next epoch",
            _REQUIREMENT,
            [
                (seal(KIND, SHORT_BODY, counter, UP, epoch, flags=ENCRYPTED), "accepted")
                for counter, epoch in ((5, 4), (6, 4), (1, 5))
            ],
            epoch=4,
        ),
    ]


def _blocks() -> list[Case]:
    """Bodies around the ends of blocks of 16 bytes; bytes of a later version make any length."""
    lengths = [*range(13, 50), 255, 256, 257, 272, 1000, 1024 - 13]
    frames = [seal(KIND, SHORT_BODY + bytes(n - 13), flags=ENCRYPTED) for n in lengths]
    extended = [
        (
            request("F", seal(KIND, with_tail(SHORT_BODY + bytes(n), (70, b"abc")), flags=ENCRYPTED | TAIL)),
            answer(KIND, SHORT_MESSAGE, 1, [[70, "616263"]]),
        )
        for n in (0, 1, 15, 16, 300)
    ]
    return [
        decoded(
            "encrypted bodies of 13 to 1011 bytes",
            _REQUIREMENT,
            [(request("F", frame), answer(KIND, SHORT_MESSAGE)) for frame in frames],
        ),
        decoded("an encrypted tail", _REQUIREMENT, extended),
    ]


def _order() -> list[Case]:
    """The tag is that of the encrypted frame, and what fails after decryption is refused as in the clear."""
    clear = seal(KIND, SHORT_BODY)
    frame = seal(KIND, SHORT_BODY, flags=ENCRYPTED)
    changed = [frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :] for place in range(5, len(frame))]
    inner = [
        (seal(KIND, SHORT_BODY[:-1], flags=ENCRYPTED), "length"),
        (seal(KIND, b"", flags=ENCRYPTED), "length"),
        (seal(KIND, SHORT_BODY[:4] + b"\xff" + SHORT_BODY[5:], flags=ENCRYPTED), "range"),
        (seal(KIND, SHORT_BODY + b"\xff", flags=ENCRYPTED | TAIL), "length"),
        (seal(KIND, with_tail(SHORT_BODY, (200, b"")), flags=ENCRYPTED | TAIL), "critical"),
        (seal(0, b"anything", flags=ENCRYPTED), "type"),
        (seal(31, b"", flags=ENCRYPTED), "type"),
        (seal(m.EVENT_STATE, b"anything", flags=ENCRYPTED), "type"),
    ]
    flipped = bytearray(clear)
    flipped[1] |= ENCRYPTED << 4
    return [
        decoded(
            "each byte of an encrypted frame after its header, changed",
            "FRAME-3",
            [(request("F", data), "tag") for data in changed],
        ),
        decoded("the encrypted flag is under the tag", "FRAME-3", [(request("F", bytes(flipped)), "tag")]),
        decoded(
            "what is wrong inside an encrypted frame",
            _REQUIREMENT,
            [(request("F", data), reason) for data, reason in inner],
        ),
    ]
