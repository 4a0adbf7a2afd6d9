"""Position batches, coded bit by bit (SPEC.md, "Position batch")."""

from collections.abc import Callable
from typing import Any

import patrolink_messages as m

from patrolink.conformance import batch_maker
from patrolink.conformance.batch_maker import Column, stream
from patrolink.conformance.case import Case, Context
from patrolink.conformance.expect import as_reference, decoded
from patrolink.conformance.frames import BitWriter, answer, request, seal

_RANDOM_BATCHES = 25
_RICE = "rice"


def ask(body: bytes) -> str:
    """Return the request for a batch."""
    return request("F", seal(m.POSITION_BATCH, body))


def rows_answer(rows: list[list[Any]], resolution: int = 6) -> dict[str, Any]:
    """Return the answer of a codec that decodes a batch."""
    return answer(m.POSITION_BATCH, {"message": "position_batch", "resolution": resolution, "rows": rows})


def cases() -> list[Case]:
    """Return the cases."""
    return [*_header(), *_times(), *_columns(), *_wrapped(), *_codes(), *_wrong_codes(), *_ends(), *_random()]


def _one(**change: Any) -> list[list[Any]]:
    """Return the row of `stream()` with other values."""
    return batch_maker.rows(1, **change)


def _header() -> list[Case]:
    counts = [(ask(stream(n).body()), rows_answer(batch_maker.rows(n))) for n in (1, 2, 127, 128, 254, 255)]
    return [
        decoded("batches of 1 to 255 rows", "BATCH-1", counts),
        decoded("256, 257 and 65,536 rows", "BATCH-3", [(ask(stream(n).body()), "range") for n in (256, 257, 65_536)]),
        decoded("resolution code 3", "BATCH-3", [(ask(stream(1, resolution=8).body()), "range")]),
        decoded(
            "each resolution",
            "BATCH-1",
            [
                (ask(stream(2, resolution=r).body()), rows_answer(batch_maker.rows(2, resolution=r), r))
                for r in (5, 6, 7)
            ],
        ),
        decoded(
            "mode 0 in the first, a middle and the last row",
            "BATCH-3",
            [
                (ask(stream(3, state=Column(first, "fixed", steps, width=3)).body()), "range")
                for first, steps in ((4, [1, -1]), (3, [1, 2]), (3, [2, -1]))
            ],
        ),
        decoded(
            "modes 1 to 3 with every flag",
            "BATCH-1",
            [
                (ask(stream(1, state=Column(value)).body()), rows_answer(_one(state=value)))
                for value in range(1, 32)
                if value & 3
            ],
        ),
        decoded(
            "mode 1 before any position",
            "BATCH-1",
            [
                (
                    ask(stream(1, lat=Column(0), lon=Column(0), state=Column(1)).body()),
                    rows_answer(_one(lat=0, lon=0, state=1)),
                )
            ],
        ),
    ]


def _times() -> list[Case]:
    starts = [1, 0x7FFFFFFF, 0x80000000, 2_150_000_000, 0xFFFFFFFF]
    back = batch_maker.rows(3)
    for row, time in zip(back, (0, -5000, -1000), strict=True):
        row[0] = batch_maker.START_S * 1000 + time
    return [
        decoded(
            "times up to the year 2106: seconds are not signed",
            "BATCH-1",
            [(ask(stream(1, start_s=start).body()), rows_answer(_one(start_s=start))) for start in starts],
        ),
        decoded(
            "milliseconds 0 and 999",
            "BATCH-1",
            [(ask(stream(1, tick=3, ms=ms).body()), rows_answer(_one(ms=ms))) for ms in (0, 1, 500, 999)],
        ),
        decoded(
            "milliseconds 1000 to 1023",
            "BATCH-3",
            [(ask(stream(1, tick=3, ms=ms).body()), "range") for ms in (1000, 1023)],
        ),
        decoded(
            "time may go back, and its steps are signed",
            "BATCH-4",
            [
                (ask(stream(3, time=Column(0, "fixed", [-5, 4], width=4)).body()), rows_answer(back)),
                (ask(stream(3, time=Column(0, "raw", [-5, -1], width=32)).body()), rows_answer(back)),
            ],
        ),
        decoded(
            "a time before 1970 or after 2106 in a later row",
            "BATCH-3",
            [
                (ask(stream(2, start_s=3, time=Column(0, "fixed", [-4], width=8)).body()), "range"),
                (ask(stream(2, start_s=0xFFFFFFFF, time=Column(0, "fixed", [1], width=8)).body()), "range"),
            ],
        ),
    ]


def _columns() -> list[Case]:
    lat_max, lon_max = 900_000_000 // 10, 1_800_000_000 // 10
    over: list[dict[str, Any]] = [
        {"lat": Column(lat_max + 1)},
        {"lat": Column(-lat_max - 1)},
        {"lon": Column(lon_max + 1)},
        {"lon": Column(-lon_max - 1)},
        {"course": Column(181)},
        {"course": Column(255)},
        {"sats": Column(101)},
        {"battery": Column(102)},
        {"battery": Column(127)},
        {"lat": Column(lat_max, "fixed", [1], width=2)},
        {"lat": Column(-lat_max, "raw", [-lat_max - 1], width=28)},
        {"lon": Column(0, "raw", [lon_max + 1], width=29)},
        {"lon": Column(lon_max, "constant", [], lead=1)},
        {"sats": Column(100, "fixed", [1], width=2)},
        {"sats": Column(1, "fixed", [-2], width=3)},
        {"course": Column(0, "raw", [181], width=8)},
        {"course": Column(0, "raw", [255], width=8)},
        {"state": Column(31, "fixed", [1], width=2)},
        {"speed": Column(1, "raw", [16_383], width=14)},
        {"hacc": Column(1, "raw", [2047], width=11)},
        {"alt": Column(1, "raw", [262_143], width=18)},
    ]
    at_limit: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"lat": lat_max, "lon": -lon_max}, {"lat": 900_000_000, "lon": -1_800_000_000}),
        ({"lat": -lat_max, "lon": lon_max}, {"lat": -900_000_000, "lon": 1_800_000_000}),
        ({"sats": 100, "battery": 101}, {"sats": 99, "battery": 100}),
        ({"sats": 1, "battery": 1}, {"sats": 0, "battery": 0}),
        ({"sats": 0, "battery": 0}, {"sats": None, "battery": None}),
        ({"course": 180}, {"course": 35_800}),
        ({"course": 0}, {"course": None}),
        ({"course": 1}, {"course": 0}),
    ]
    return [
        decoded(
            "values beyond the range of each column, in the first and in later rows",
            "BATCH-3",
            [(ask(stream(_rows_of(change), **change).body()), "range") for change in over],
        ),
        decoded(
            "values at the ends of each column, and the unknown ones",
            "BATCH-1",
            [(ask(stream(1, **_keyframes(stored)).body()), rows_answer(_one(**shown))) for stored, shown in at_limit],
        ),
    ]


def _wrapped() -> list[Case]:
    wraps = [
        (Column(1, "fixed", [-1, -1], width=2), [0, None, 35_800]),
        (Column(180, "fixed", [1, 2], width=4), [35_800, None, 200]),
        (Column(2, "constant", [], lead=180), [200, 0, None]),
    ]
    return [
        decoded(
            "course goes around through its modulus in steps, not in raw values",
            "BATCH-7",
            [
                (ask(stream(3, course=column).body()), rows_answer(batch_maker.with_column(3, "course", shown)))
                for column, shown in wraps
            ],
        ),
        decoded(
            "each optional column left out",
            "BATCH-1",
            [
                (ask(stream(2, omit=(name,)).body()), rows_answer(batch_maker.rows(2, **_absent(name))))
                for name in batch_maker.OPTIONAL
            ]
            + [
                (
                    ask(stream(2, omit=batch_maker.OPTIONAL).body()),
                    rows_answer(batch_maker.rows(2, **_absent(*batch_maker.OPTIONAL))),
                )
            ],
        ),
    ]


def _rows_of(columns: dict[str, Any]) -> int:
    return 1 if all(column.kind == "none" for column in columns.values()) else 2


def _keyframes(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: Column(value) for name, value in stored.items()}


def _absent(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names)


def _sats(column: Column, shown: list[int]) -> tuple[str, dict[str, Any]]:
    n = len(shown)
    return ask(stream(n, sats=column).body()), rows_answer(batch_maker.with_column(n, "sats", shown))


def _codes() -> list[Case]:
    up = [9, 10, 12, 11, 14]
    rice: list[Case] = [
        decoded(
            f"Rice parameter {k}, first differences",
            "BATCH-5",
            [_sats(Column(10, "rice", [1, 2, -1, 3], width=k), up)],
            claim=_RICE,
        )
        for k in range(13)
    ]
    return [
        *rice,
        decoded(
            "runs of zeros of each order",
            "BATCH-5",
            [_sats(Column(10, "runs", [0, 0, 1, 0, -1, 0], width=k), [9, 9, 9, 10, 10, 9, 9]) for k in (13, 14, 15)]
            + [
                _sats(Column(10, "runs", [0, 0, 0], width=13), [9] * 4),
                _sats(Column(10, "runs", [1, 1], width=13), [9, 10, 11]),
            ],
            claim=_RICE,
        ),
        decoded(
            "the escape of a Rice code, at 11 and 12 zeros",
            "BATCH-5",
            [_sats(Column(10, "rice", [step, 0], width=0), [9, 9 + step, 9 + step]) for step in (-6, 5, 6, 40, 80)],
            claim=_RICE,
        ),
        decoded(
            "fixed widths of 1 to 34 bits",
            "BATCH-4",
            [_sats(Column(10, "fixed", [0, -1, 0], width=w), [9, 9, 8, 8]) for w in range(1, 35)],
        ),
        decoded(
            "constant, fixed and Rice over second differences",
            "BATCH-4",
            [
                _sats(Column(10, "constant", [], lead=2), [9, 11, 13, 15]),
                _sats(Column(10, "fixed", [1, -1], width=3, lead=1), [9, 10, 12, 13]),
                _sats(Column(90, "fixed", [-1, -1], width=2, lead=-3), [89, 86, 82, 77]),
            ],
        ),
        decoded(
            "raw values: one less than there are rows",
            "BATCH-4",
            [_sats(Column(10, "raw", [11, 8, 12], width=7), [9, 10, 7, 11])],
        ),
    ]


def _wrong_codes() -> list[Case]:
    return [
        decoded(
            "second differences of raw values",
            "BATCH-6",
            [(ask(stream(2, sats=Column(10, "raw", [11], width=7, second=True)).body()), "range")],
        ),
        decoded(
            "fixed widths of 0 and of 35 to 63 bits",
            "BATCH-6",
            [
                (ask(stream(2, sats=Column(10, "fixed", [0], width=w)).body()), "range" if w == 0 else "range length")
                for w in (0, 35, 36, 63)
            ],
        ),
        decoded(
            "a run past the last row",
            "BATCH-6",
            [(ask(stream(3, sats=Column(10, "overrun", [3], width=k)).body()), "range length") for k in (13, 14, 15)],
            claim=_RICE,
        ),
        decoded(
            "streams that no encoder would choose",
            "BATCH-4",
            [
                _sats(Column(10, "fixed", [0, 0, 0], width=20), [9, 9, 9, 9]),
                _sats(Column(10, "raw", [10, 10], width=7), [9, 9, 9]),
                _sats(Column(10, "constant", [], lead=0), [9, 9, 9]),
                _sats(Column(10, "fixed", [0, 0], width=5, lead=0), [9, 9, 9, 9]),
            ],
        ),
    ]


def _ends() -> list[Case]:
    whole = stream(20, sats=Column(10, "fixed", [1] * 19, width=3))
    body = whole.body()
    used = len(whole.bits) % 8
    extra = BitWriter()
    extra.bits = whole.bits + "0" * (-used % 8)
    one = body[:-1] + bytes([body[-1] | 1]) if used else body
    padding = [(ask(one), "length")] if used else []
    return [
        decoded(
            "a batch that ends at each of its bytes",
            "BATCH-2",
            [(ask(body[:n]), "length range") for n in range(len(body))],
        ),
        decoded(
            "a byte, a bit, or another batch after a batch",
            "BATCH-2",
            [*padding, (ask(body + b"\x00"), "length"), (ask(body + b"\x80"), "length"), (ask(body + body), "length")],
        ),
    ]


def _random() -> list[Case]:
    def damaged(context: Context) -> list[str]:
        random = context.random()
        lines = []
        for _ in range(_RANDOM_BATCHES):
            body = bytearray(_random_stream(random.random, random.choice, random.randrange))
            for _ in range(random.choice((1, 1, 2, 4))):
                body[random.randrange(len(body))] ^= 1 << random.randrange(8)
            lines.append(ask(bytes(body)))
        return lines

    def genuine(context: Context) -> list[str]:
        random = context.random()
        return [ask(_random_stream(random.random, random.choice, random.randrange)) for _ in range(_RANDOM_BATCHES)]

    def noise(context: Context) -> list[str]:
        random = context.random()
        return [ask(random.randbytes(random.randrange(4, 60))) for _ in range(100)]

    return [
        as_reference("random batches of all codings", "BATCH-1", genuine),
        as_reference("random batches with changed bits", "BATCH-6", damaged),
        as_reference("random bits as batches", "BATCH-2", noise),
    ]


def _random_stream(fraction: Callable[[], float], choice: Callable[[Any], Any], below: Callable[[int], int]) -> bytes:
    n = choice((1, 2, 3, 5, 9, 30))
    columns: dict[str, Any] = {}
    for name, least, most in (("sats", 0, 100), ("battery", 0, 101), ("course", 0, 180)):
        kind = choice(("constant", "fixed", "rice", "runs", "raw"))
        first = least + below(most - least)
        steps = [0 if fraction() < 0.6 else choice((-2, -1, 1, 2)) for _ in range(n - 1)]
        if kind == "raw":
            columns[name] = Column(first, kind, [below(most) for _ in steps], width=8 if name == "course" else 7)
        elif kind == "constant":
            columns[name] = Column(first, kind, [], lead=choice((None, 0, 1, -1)))
        else:
            width = below(13) if kind == "rice" else 13 + below(3) if kind == "runs" else 4 + below(31)
            columns[name] = Column(first, kind, steps, width=width)
    return stream(n, resolution=5 + below(3), tick=below(4), ms=below(1000), **columns).body()
