"""Counters, replays, order and key epochs (SPEC.md, "Counters" and "Tag and keys")."""

import patrolink_messages as m

from patrolink.conformance.case import Case, Context, Judgement
from patrolink.conformance.evidence import Evidence, Step, ask, tell
from patrolink.conformance.expect import case, decoded, judge_steps, stepped
from patrolink.conformance.frames import (
    COUNTER_MAX,
    DEVICE,
    DOWN,
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
)

KIND = m.TEXT_STATE
WINDOW = m.REPLAY_WINDOW
_RANDOM_STEPS = 300


def frame(counter: int, direction: int = UP, epoch: int = 0) -> bytes:
    """Return a short genuine frame."""
    return seal(KIND, SHORT_BODY, counter, direction, epoch)


def cases() -> list[Case]:
    """Return the cases."""
    receivers = ((UP, "a host"), (DOWN, "a device"))
    epochs = [case for part in (_epochs, _ends_of_epochs) for receiver in receivers for case in part(*receiver)]
    return [*_host(), *_host_values(), *_device(), *_spent(), *epochs, *_values(), _random_window()]


def _sent(counters: list[tuple[int, str]], direction: int = UP, epoch: int = 0) -> list[tuple[bytes, str]]:
    return [(frame(counter, direction, epoch), expected) for counter, expected in counters]


def _host() -> list[Case]:
    new, repeat, old = "accepted", "repeated", "replay"
    top = 200_000
    edge = [
        (top, new), (top - WINDOW, old), (top - WINDOW + 1, new), (top - WINDOW + 1, repeat), (top - WINDOW - 1, old),
        (top + 1, new), (top - WINDOW + 1, old), (top - WINDOW + 2, new), (0, old),
    ]  # fmt: skip
    return [
        stepped("the edges of the window of a host", "REPLAY-1", _sent(edge)),
        stepped(
            "a repeated frame, at once and after others",
            "REPLAY-1",
            _sent([(5, new), (5, repeat), (9, new), (5, repeat), (9, repeat), (7, new), (7, repeat), (5, repeat)]),
        ),
        stepped(
            "a host takes a backlog in reverse order",
            "REPLAY-1",
            _sent([(counter, new) for counter in range(200, 100, -1)] + [(150, repeat), (100, new)]),
        ),
        stepped(
            "a host remembers repeats over 1000, 10,000 and 60,000 counters",
            "REPLAY-1",
            _sent(
                [(1000, new), (2001, new), (1000, repeat), (11_001, new), (1000, repeat), (61_001, new), (1000, repeat)]
            ),
        ),
        stepped(
            "counters that are skipped are not marked as seen",
            "REPLAY-1",
            _sent(
                [(10, new), (10 + WINDOW, new), (11, new), (12, new), (10 + WINDOW + 8, new), (20, new), (20, repeat)]
            ),
        ),
        stepped(
            "a jump by exactly, nearly and more than the window forgets what was seen before",
            "REPLAY-1",
            _sent(
                [
                    (0, new),
                    (1, new),
                    (2, new),
                    (1 + WINDOW, new),
                    (2, repeat),
                    (3, new),
                    (1 + 3 * WINDOW, new),
                    (2 + 2 * WINDOW, new),
                    (2 + 2 * WINDOW, repeat),
                    (1 + 2 * WINDOW, old),
                    (1 + 4 * WINDOW, new),
                    (2 + 3 * WINDOW, new),
                    (1 + 3 * WINDOW, old),
                ]
            ),
        ),
    ]


def _host_values() -> list[Case]:
    new, repeat, old = "accepted", "repeated", "replay"
    return [
        stepped("the first counter of a host may be 0", "REPLAY-1", _sent([(0, new), (0, repeat), (1, new)])),
        stepped(
            "a host takes the highest counter, and what is below it within the window",
            "REPLAY-1",
            _sent([(COUNTER_MAX, new), (COUNTER_MAX, repeat), (COUNTER_MAX - WINDOW + 1, new), (0, old)]),
        ),
        stepped(
            "repeats of a lane that is late among frames of another lane",
            "REPLAY-1",
            _sent(
                [(counter, new) for pair in zip(range(500, 520), range(900, 920), strict=True) for counter in pair]
                + [(counter, repeat) for counter in (*range(500, 520), *range(900, 920))]
            ),
        ),
    ]


def _device() -> list[Case]:
    new, old = "accepted", "replay"
    return [
        stepped(
            "a device takes only higher counters",
            "REPLAY-2",
            _sent(
                [(5, new), (5, old), (4, old), (0, old), (6, new), (100, new), (99, old), (7, old), (101, new)], DOWN
            ),
            DOWN,
        ),
        stepped(
            "a device takes 0 as the first counter, once", "REPLAY-2", _sent([(0, new), (0, old), (1, new)], DOWN), DOWN
        ),
        stepped(
            "a device at the highest counter takes nothing more",
            "REPLAY-2",
            _sent([(COUNTER_MAX - 1, new), (COUNTER_MAX, new), (COUNTER_MAX, old), (0, old)], DOWN),
            DOWN,
        ),
    ]


def _spent() -> list[Case]:
    """Return cases of counters that are taken, or not, by refused frames."""
    result = []
    for direction, name, repeat in ((UP, "a host", "repeated"), (DOWN, "a device", "replay")):
        bad = [
            (seal(KIND, SHORT_BODY[:3], 10, direction), "length"),
            (seal(KIND, b"\x00\x00\x00\x07\xff" + SHORT_BODY[5:], 11, direction), "range"),
            (seal(KIND, SHORT_BODY + b"\x05", 12, direction, flags=TAIL), "length"),
            (seal(0, b"", 13, direction), "type"),
        ]
        retried = [(seal(KIND, SHORT_BODY, counter, direction), repeat) for counter in (10, 11, 12, 13)]
        result.append(
            stepped(
                f"the counter of a genuine frame is spent at {name}, even if tail, type or body is refused",
                "REPLAY-1" if direction == UP else "REPLAY-2",
                [*bad, *((data, repeat) for data, _ in bad), *retried, (frame(14, direction), "accepted")],
                direction,
            )
        )
        forged = frame(9000, direction)[:-1] + b"\x00"
        unspent = [
            (frame(1, direction), "accepted"),
            (forged, "tag"),
            (seal(KIND, SHORT_BODY, 9000, direction, flags=RESERVED), "critical"),
            (seal(KIND, SHORT_BODY, 9000, direction, flip=PHASE), "critical tag"),
            (seal(KIND, SHORT_BODY, 9000, direction, version=2), "version"),
            (frame(9000, 1 - direction), "tag"),
            (frame(2, direction), "accepted"),
            (frame(9000, direction), "accepted"),
        ]
        result.append(
            stepped(
                f"a frame that is refused before its counter spends none at {name}",
                "REPLAY-1" if direction == UP else "REPLAY-2",
                unspent,
                direction,
            )
        )
    return result


def _epochs(direction: int, name: str) -> list[Case]:
    repeat = "repeated" if direction == UP else "replay"
    old, new = [(frame(counter, direction, 4)) for counter in (7, 8, 9)], frame(3, direction, 5)
    return [
        stepped(
            f"{name} goes on to the next epoch, and takes no frame of the old one after that",
            "KEY-2",
            [
                (old[0], "accepted"),
                (new, "accepted"),
                (old[1], "tag critical"),
                (old[0], "tag critical"),
                (new, repeat),
                (frame(4, direction, 5), "accepted"),
                (frame(1, direction, 6), "accepted"),
                (old[2], "tag critical"),
            ],
            direction,
            4,
        ),
        stepped(
            f"counters begin anew in the next epoch at {name}",
            "KEY-2",
            [
                (frame(90000, direction, 0), "accepted"),
                (frame(0, direction, 1), "accepted"),
                (frame(0, direction, 1), repeat),
                (frame(1, direction, 1), "accepted"),
            ],
            direction,
        ),
        stepped(
            f"{name} does not skip an epoch",
            "KEY-2",
            [
                (frame(1, direction, 2), "tag"),
                (frame(1, direction, 3), "tag"),
                (frame(1, direction, 0), "accepted"),
            ],
            direction,
        ),
    ]


def _ends_of_epochs(direction: int, name: str) -> list[Case]:
    return [
        stepped(
            f"a forged frame of the next phase does not end the epoch at {name}",
            "KEY-2",
            [
                (frame(1, direction, 1)[:-1] + b"\x00", "tag"),
                (frame(1, direction), "accepted"),
                (seal(KIND, SHORT_BODY, 2, direction, 1, flags=RESERVED), "critical"),
                (frame(3, direction), "accepted"),
            ],
            direction,
        ),
        stepped(
            f"a frame of the next epoch whose body is refused ends the old epoch at {name}",
            "KEY-2",
            [
                (frame(1, direction), "accepted"),
                (seal(KIND, b"", 5, direction, 1), "length"),
                (frame(2, direction), "tag critical"),
                (frame(6, direction, 1), "accepted"),
            ],
            direction,
        ),
        stepped(
            f"the last epoch has no next one at {name}",
            "KEY-2",
            [
                (frame(1, direction, 4294967295), "accepted"),
                (frame(2, direction, 0), "tag critical"),
                (frame(2, direction, 4294967295), "accepted"),
            ],
            direction,
            4294967295,
        ),
    ]


def _values() -> list[Case]:
    counters = [0, 1, 255, 256, 65_535, 65_536, 1 << 24, (1 << 24) + 1, 0x0ABCDEF1, COUNTER_MAX]
    return [
        decoded(
            "counters of 28 bits are read in full",
            "REPLAY-1",
            [(request("F", frame(counter)), answer(KIND, SHORT_MESSAGE, counter)) for counter in counters],
        ),
        decoded(
            "counters and the phase flag share their byte",
            "KEY-2",
            [
                (request("F", frame(counter, DOWN, 1), DOWN, 1), answer(KIND, SHORT_MESSAGE, counter))
                for counter in counters
            ],
        ),
    ]


def _random_counters(context: Context) -> list[int]:
    """Return counters around the window: new ones, repeats, near and far."""
    random = context.random()
    highest = random.randrange(100_000)
    past = [highest]
    for _ in range(_RANDOM_STEPS):
        kind = random.random()
        if kind < 0.3:
            counter = highest + random.choice((1, 2, 7, 8, 9, 63, 1000, WINDOW - 1, WINDOW, WINDOW + 1))
        elif kind < 0.55:
            counter = random.choice(past)
        else:
            counter = max(0, highest - random.choice((1, 3, 8, 17, 999, WINDOW - 1, WINDOW, WINDOW + 1)))
        past.append(counter)
        highest = max(highest, counter)
    return past


def _window_model(counters: list[int]) -> list[str]:
    """Return what a host does, from the words of the specification: with a set instead of a bitmap."""
    past: set[int] = set()
    result = []
    for counter in counters:
        highest = max(past, default=-1)
        if counter <= highest - WINDOW:
            result.append("replay")
        else:
            result.append("repeated" if counter in past else "accepted")
            past.add(counter)
    return result


def _random_window() -> Case:
    def steps(context: Context) -> list[Step]:
        sent = [ask(f"S {frame(counter).hex()}") for counter in _random_counters(context)]
        return [tell(f"R {SECRET.hex()} {DEVICE} 0 0"), *sent]

    def judge(context: Context, evidence: Evidence) -> Judgement:
        return judge_steps(_window_model(_random_counters(context)), evidence)

    return case("random counters around the window of a host", "REPLAY-1", steps, judge)
