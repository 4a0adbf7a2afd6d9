"""Tails: extensions of later versions and of vendors (SPEC.md, "Tail")."""

import patrolink_messages as m

from patrolink.conformance.case import Case, Context
from patrolink.conformance.expect import as_reference, decoded
from patrolink.conformance.frames import SHORT_BODY, SHORT_MESSAGE, TAIL, answer, request, seal, with_tail

KIND = m.TEXT_STATE
CRITICAL = 128
_RANDOM_FRAMES = 60


def cases() -> list[Case]:
    """Return the cases."""
    return [*_elective(), *_critical(), *_broken(), _random_tails()]


def _ask(body: bytes) -> str:
    return request("F", seal(KIND, body, flags=TAIL))


def _pair(extensions: list[tuple[int, bytes]]) -> tuple[str, dict[str, object]]:
    shown = [[kind, value.hex()] for kind, value in extensions]
    return _ask(with_tail(SHORT_BODY, *extensions)), answer(KIND, SHORT_MESSAGE, 1, shown)


def _elective() -> list[Case]:
    many = [(kind, bytes([kind])) for kind in range(2, 87)]
    return [
        decoded(
            "elective extensions of each type but trace",
            "TAIL-1",
            [_pair([(kind, b"\x01\x02")]) for kind in (2, 3, 62, 63, 64, 100, 126, 127)],
        ),
        decoded(
            "an extension without a value, and one of 253 bytes",
            "TAIL-1",
            [_pair([(70, b"")]), _pair([(70, bytes(253))])],
        ),
        decoded("85 extensions in one tail", "TAIL-1", [_pair(many)]),
        decoded("trace of 1 and of 32 bytes", "TAIL-1", [_pair([(1, b"\x00")]), _pair([(1, bytes(range(32)))])]),
        decoded(
            "bytes of a later version between body and tail",
            "BODY-4",
            [
                (_ask(with_tail(SHORT_BODY + bytes(n), (9, b"x"))), answer(KIND, SHORT_MESSAGE, 1, [[9, "78"]]))
                for n in (1, 7, 200)
            ],
        ),
        decoded("an empty tail", "TAIL-1", [(_ask(with_tail(SHORT_BODY)), answer(KIND, SHORT_MESSAGE))]),
    ]


def _critical() -> list[Case]:
    kinds = [2, 33, 63, 64, 127]
    alone = [(_ask(with_tail(SHORT_BODY, (kind | CRITICAL, b"\x01"))), "critical") for kind in kinds]
    after = [(_ask(with_tail(SHORT_BODY, (70, b"abc"), (kind | CRITICAL, b""))), "critical") for kind in kinds]
    before = [(_ask(with_tail(SHORT_BODY, (kind | CRITICAL, b"\x01"), (70, b""))), "critical") for kind in kinds]
    return [
        decoded("critical extensions, alone, first and last", "TAIL-2", alone + after + before),
        decoded("a critical trace", "TAIL-2", [(_ask(with_tail(SHORT_BODY, (1 | CRITICAL, b"\x01"))), "critical")]),
        decoded(
            "a tail with wrong lengths and a critical extension",
            "TAIL-3",
            [(_ask(SHORT_BODY + bytes([130, 9, 1, 3])), "length critical")],
        ),
    ]


def _broken() -> list[Case]:
    n = len(SHORT_BODY)
    broken = [
        b"",
        bytes([n + 1]),
        SHORT_BODY + bytes([n + 1]),
        SHORT_BODY + b"\xff",
        SHORT_BODY + b"\x01",
        SHORT_BODY + bytes([70, 1, 2]),
        SHORT_BODY + bytes([70, 2, 5, 3]),
        SHORT_BODY + bytes([70, 0, 70, 3]),
        SHORT_BODY + bytes([70, 1, 5, 71, 1, 5]),
        SHORT_BODY + bytes([70, 255, 5, 3]),
    ]
    return [
        decoded("tails with inconsistent lengths", "TAIL-3", [(_ask(body), "length") for body in broken]),
        decoded(
            "a tail may begin at the first byte of the body, and not before it",
            "TAIL-3",
            [
                (request("F", seal(0, bytes([70, 0, 2]), flags=TAIL)), "type"),
                (request("F", seal(0, bytes([70, 0, 3]), flags=TAIL)), "length"),
                (request("F", seal(0, bytes([0, 2]), 70, flags=TAIL)), "length"),
            ],
        ),
        decoded(
            "a tail that leaves the body too short", "BODY-1", [(_ask(with_tail(SHORT_BODY[:-1], (70, b""))), "length")]
        ),
    ]


def _random_tails() -> Case:
    def lines(context: Context) -> list[str]:
        random = context.random()
        result = []
        for _ in range(_RANDOM_FRAMES):
            tail = bytes(random.choice((0, 1, 2, 3, 64, 65, 129, 255)) for _ in range(random.randrange(12)))
            size = random.choice((len(tail), len(tail), len(tail) + 1, max(len(tail) - 1, 0), 255))
            result.append(_ask(SHORT_BODY + tail + bytes([size])))
        return result

    return as_reference("random tails", "TAIL-3", lines)
