"""Position batches, written bit by bit from SPEC.md: every coding, and codings that are wrong."""

from typing import Any, NamedTuple

from patrolink.conformance.frames import BitWriter

START_S = 1_700_000_000
OPTIONAL = ("alt", "speed", "course", "hacc", "sats", "battery")
NAMES = ("lat", "lon", "state", *OPTIONAL)
_DIVISORS = {5: 100, 6: 10, 7: 1, 8: 1}
_COORDINATE_BITS = {5: (25, 26), 6: (28, 29), 7: (31, 32), 8: (31, 32)}
_KINDS = {"constant": 0, "fixed": 1, "rice": 2, "runs": 2, "overrun": 2, "raw": 3}
_ALT_DIVISORS = {5: 1000, 6: 500, 7: 100, 8: 100}
_ESCAPE, _RUNS = 12, 13
_KEYFRAME = {"state": 4, "alt": 9, "speed": 5, "hacc": 3, "sats": 4}  # order of the Exp-Golomb code
_PLAIN = {"course": 8, "battery": 7}  # bits


class Column(NamedTuple):
    """A column of stored values.

    Attributes:
        first: Stored value of the first row. A time is 0.
        kind: none (one row), constant, fixed, rice, runs, overrun (a run that is too long) or raw.
        steps: Differences after the first value, or after `lead`; of a raw column the values.
        width: Width, or parameter of Rice codes and runs.
        lead: First difference of a column of second differences; None: first differences.
        second: Set the bit of second differences without a lead.
    """

    first: int
    kind: str = "none"
    steps: list[int] = []  # noqa: RUF012 - a NamedTuple's default, never changed
    width: int = 0
    lead: int | None = None
    second: bool = False


# Defaults of `stream`: stored values of one row, and what a codec shows for them.
_STORED = {
    "lat": 31_123_456,
    "lon": 121_123_456,
    "state": 3,
    "alt": 1,
    "speed": 15,
    "course": 46,
    "hacc": 5,
    "sats": 10,
}
_STORED["battery"] = 81
_SHOWN = {"state": 3, "speed": 1400, "course": 9000, "hacc": 4000, "sats": 9, "battery": 80}


def zigzag(value: int) -> int:
    """Map 0, -1, 1, -2, 2 to 0, 1, 2, 3, 4."""
    return value << 1 if value >= 0 else ~(value << 1)


def stream(
    n: int,
    resolution: int = 6,
    tick: int = 0,
    ms: int = 0,
    start_s: int = START_S,
    omit: tuple[str, ...] = (),
    **columns: Column,
) -> BitWriter:
    """Return the bits of a batch of n rows, one second apart.

    Args:
        n: Number of rows.
        resolution: 5 to 7; 8 writes the code that no resolution has.
        tick: Code of the unit of time.
        ms: Milliseconds of the first row; written if tick is not 0.
        start_s: Time of the first row.
        omit: Optional columns to leave out.
        **columns: Columns by name (`time` and NAMES); others are constant.
    """
    bits = BitWriter().eg(n - 1).put(resolution - 5, 2).put(tick, 2)
    if omit:
        bits.put(0, 1)
        for name in reversed(OPTIONAL):
            bits.put(name not in omit, 1)
    else:
        bits.put(1, 1)
    bits.put(start_s, 32)
    if tick:
        bits.put(ms, 10)
    steady = Column(0, "constant", [], lead=(1, 10, 100, 1000)[tick])
    _put_steps(bits, columns.get("time", steady), n)
    for name in NAMES:
        if name not in omit:
            column = columns.get(name, Column(_default(name, resolution), "constant"))
            _put_first(bits, name, column.first, resolution)
            _put_steps(bits, column, n)
    return bits


def _default(name: str, resolution: int) -> int:
    divisor = _DIVISORS[resolution]
    return _STORED[name] * 10 // divisor if name in ("lat", "lon") else _STORED[name]


def _put_first(bits: BitWriter, name: str, value: int, resolution: int) -> None:
    if name in ("lat", "lon"):
        bits.put(value, _COORDINATE_BITS[resolution][name == "lon"])
    elif name in _PLAIN:
        bits.put(value, _PLAIN[name])
    elif name == "alt" and value:
        # Stored from the minimum; the keyframe counts from zero.
        bits.eg(zigzag(value - 1 - 1_000_000 // _ALT_DIVISORS[resolution]) + 1, _KEYFRAME[name])
    else:
        bits.eg(value, _KEYFRAME[name])


def _put_steps(bits: BitWriter, column: Column, n: int) -> None:
    """Write the coding of a column and its values after the first."""
    if n == 1:
        return
    bits.put(column.second or column.lead is not None, 1).put(_KINDS[column.kind], 2)
    if column.lead is not None:
        bits.eg(zigzag(column.lead))
    if column.kind == "fixed":
        bits.put(column.width, 6)
        for step in column.steps:
            bits.put(zigzag(step), column.width)
    elif column.kind == "raw":
        for value in column.steps:
            bits.put(value, column.width)
    elif column.kind in ("rice", "runs", "overrun"):
        bits.put(column.width, 4)
        (_put_rice if column.kind == "rice" else _put_runs)(bits, column)


def _put_rice(bits: BitWriter, column: Column) -> None:
    k = column.width
    for step in column.steps:
        code = zigzag(step)
        if code >> k < _ESCAPE:
            bits.put(1, (code >> k) + 1).put(code, k)
        else:
            bits.put(0, _ESCAPE).eg(code - (_ESCAPE << k), k + 3)


def _put_runs(bits: BitWriter, column: Column) -> None:
    k = column.width - _RUNS + 2
    if column.kind == "overrun":
        bits.eg(column.steps[0], k)
        return
    run = 0
    for step in column.steps:
        if step:
            bits.eg(run, k).eg(zigzag(step) - 1)
            run = 0
        else:
            run += 1
    if run:
        bits.eg(run, k)


def rows(n: int, resolution: int = 6, ms: int = 0, start_s: int = START_S, **change: Any) -> list[list[Any]]:
    """Return the decoded rows of `stream`, with other values of columns."""
    divisor = _DIVISORS[resolution]
    shown = {name: _STORED[name] * 10 // divisor * divisor for name in ("lat", "lon")}
    shown.update({**_SHOWN, "alt": -1_000_000, **change})
    return [[start_s * 1000 + ms + 1000 * i, *(shown[name] for name in NAMES)] for i in range(n)]


def with_column(n: int, name: str, values: list[Any]) -> list[list[Any]]:
    """Return the decoded rows of `stream` with other values in one column."""
    result = rows(n)
    for row, value in zip(result, values, strict=True):
        row[1 + NAMES.index(name)] = value
    return result
