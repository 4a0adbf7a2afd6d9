"""Says where in a body two readings part: the first bit of a batch, or the first byte of a scalar message.

The bits of a batch are read here by a separate small decoder, which records where each value is stored. It follows
SPEC.md, "Position batch", on any body, so it also shows where a body stops being legal.
"""

from typing import Any, NamedTuple

import patrolink_messages as m
from patrolink_protocol import track_encoder
from patrolink_protocol.codec import message_spec, parse_field

from patrolink.core.text import plural

_KINDS = ("constant", "fixed-width", "Rice", "raw")
_COLUMNS = ("time", "lat", "lon", "state", "alt", "speed", "course", "hacc", "sats", "battery")


class Code(NamedTuple):
    """A code of a batch.

    Attributes:
        bit: Offset of its first bit.
        bits: The bits, as text.
        meaning: What the code says.
        column: Column that it belongs to, or "".
        row: Row whose value it completes; -1 for none.
    """

    bit: int
    bits: str
    meaning: str
    column: str = ""
    row: int = -1


class _Reader:
    """Reads bits and notes codes."""

    def __init__(self, body: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in body)
        self.at = 0
        self.codes: list[Code] = []

    def get(self, n: int) -> int:
        """Return n bits. Raises EOFError if there are fewer."""
        if self.at + n > len(self.bits):
            raise EOFError
        self.at += n
        return int(self.bits[self.at - n : self.at] or "0", 2)

    def eg(self, k: int) -> int:
        """Return an Exp-Golomb code of order k. Raises EOFError at the end, ValueError for a code that is too long."""
        zeros = 0
        while not self.get(1):
            zeros += 1
            if zeros + k > 36:
                raise ValueError("a code of more than 36 bits")
        return (1 << zeros + k) + self.get(zeros + k) - (1 << k)

    def note(self, start: int, meaning: str, column: str = "", row: int = -1) -> None:
        """Note the code from `start` to here."""
        self.codes.append(Code(start, self.bits[start : self.at], meaning, column, row))


def codes_of_batch(body: bytes) -> tuple[list[Code], str]:
    """Return the codes of a batch, and why reading stopped before its end; "" if it did not."""
    reader = _Reader(body)
    try:
        _read_batch(reader)
    except EOFError:
        return (
            reader.codes,
            f"the batch ends at bit {len(reader.bits)}, inside the code that begins after {_last(reader)}",
        )
    except ValueError as e:
        return reader.codes, f"bit {reader.at}: {e}"
    return reader.codes, ""


def _last(reader: _Reader) -> str:
    return reader.codes[-1].meaning if reader.codes else "nothing"


def _read_batch(reader: _Reader) -> None:
    rows = _noted(reader, reader.eg(0) + 1, "rows: {}")
    if rows > m.MAX_BATCH:
        raise ValueError(f"number of rows: {rows}")
    resolution = _noted(reader, reader.get(2) + 5, "resolution {}")
    if resolution > 7:
        raise ValueError("resolution code 3")
    tick = _noted(reader, reader.get(2), "tick {}")
    optional = [name for name, *_, is_optional, _ in track_encoder.column_specs(resolution) if is_optional]
    start = reader.at
    present = (1 << len(optional)) - 1 if reader.get(1) else reader.get(len(optional))
    reader.note(start, f"optional columns {present:0{len(optional)}b}, last column first")
    _noted(reader, reader.get(32), "time of the first row: {} s")
    if tick:
        _noted(reader, reader.get(10), "milliseconds {}")
    for name, _, _, _, bits, k, signed, is_optional, _ in track_encoder.column_specs(resolution):
        if is_optional and not present >> optional.index(name) & 1:
            continue
        if name != "time":
            start = reader.at
            value = reader.get(bits) if k < 0 else reader.eg(k)
            value -= 1 << bits if k < 0 and signed and value >> bits - 1 else 0
            reader.note(start, f"{name}: keyframe, stored as {value}", name, 0)
        if rows > 1:
            _read_column(reader, name, rows, bits)
    start, left = reader.at, len(reader.bits) - reader.at
    if left:
        padding = reader.get(left)
        reader.note(start, "padding" if left < 8 and not padding else "bits after the batch")


def _noted(reader: _Reader, value: int, text: str) -> int:
    """Note a code that has just been read."""
    start = reader.codes[-1].bit + len(reader.codes[-1].bits) if reader.codes else 0
    reader.note(start, text.format(value))
    return value


def _unzigzag(code: int) -> int:
    return -((code + 1) >> 1) if code & 1 else code >> 1


def _read_column(reader: _Reader, name: str, rows: int, bits: int) -> None:
    start = reader.at
    second, kind = reader.get(1), reader.get(2)
    reader.note(start, f"{name}: {'second' if second else 'first'} differences, {_KINDS[kind]}", name)
    row = 1
    if second and kind == track_encoder.RAW:
        raise ValueError("raw second differences")
    if second:
        start = reader.at
        value = _unzigzag(reader.eg(0))
        reader.note(start, f"{name}: first difference {value}", name, row)
        row += 1
    width = 0
    if kind in (track_encoder.FIXED, track_encoder.RICE):
        start = reader.at
        width = reader.get(6 if kind == track_encoder.FIXED else 4)
        reader.note(start, f"{name}: {'width' if kind == track_encoder.FIXED else 'parameter'} {width}", name)
        if kind == track_encoder.FIXED and not 1 <= width <= 34:
            raise ValueError(f"width {width}")
    if kind == track_encoder.RICE and width >= track_encoder.RUNS:
        _read_runs(reader, name, row, rows, width - track_encoder.RUNS + 2)
        return
    for number in range(row, rows):
        start = reader.at
        if kind == track_encoder.CONSTANT:
            reader.note(start, f"{name}: no difference, as the column is constant", name, number)
        elif kind == track_encoder.RAW:
            value = reader.get(bits)
            reader.note(start, f"{name}: raw value {value}", name, number)
        else:
            code = reader.get(width) if kind == track_encoder.FIXED else _rice(reader, width)
            reader.note(start, f"{name}: difference {_unzigzag(code)}", name, number)


def _rice(reader: _Reader, k: int) -> int:
    quotient = 0
    while quotient < track_encoder.ESCAPE and not reader.get(1):
        quotient += 1
    return quotient << k | reader.get(k) if quotient < track_encoder.ESCAPE else (quotient << k) + reader.eg(k + 3)


def _read_runs(reader: _Reader, name: str, row: int, rows: int, k: int) -> None:
    while row < rows:
        start = reader.at
        run = reader.eg(k)
        reader.note(start, f"{name}: {run} differences of 0", name, row if run else -1)
        if run > rows - row:
            raise ValueError(f"a run of {run}, longer than what is left: {rows - row}")
        for number in range(row + 1, row + run):
            reader.codes.append(Code(start, "", f"{name}: in a run of zeros", name, number))
        row += run
        if row < rows:
            start = reader.at
            value = _unzigzag(reader.eg(0) + 1)
            reader.note(start, f"{name}: difference {value}", name, row)
            row += 1


def explain(kind: int, body: bytes, first: dict[str, Any], second: dict[str, Any]) -> str:
    """Return where two readings of a body part, in one line.

    Args:
        kind: Message type.
        body: The body in the clear, without tail.
        first: A reading: the answer of a codec to an F request.
        second: The other reading.
    """
    if kind == m.POSITION_BATCH:
        return _explain_batch(body, first, second)
    if "reject" in first or "reject" in second:
        return _explain_refusal(kind, body, first, second)
    at = 0
    for spec in message_spec(kind)[1:]:
        name, letter, size, *_ = parse_field(spec)
        if first["message"].get(name, "absent") != second["message"].get(name, "absent"):
            shown = body[at : at + size + (int.from_bytes(body[at : at + size], "big") if letter in "sx" else 0)]
            return f"byte {at} of the body, {shown.hex() or 'after its end'}: {name}"
        at += size + (int.from_bytes(body[at : at + size], "big") if letter in "sx" else 0)
    return "the fields agree; counter or extensions differ"


def _explain_refusal(kind: int, body: bytes, first: dict[str, Any], second: dict[str, Any]) -> str:
    """Return the place of the first field that is not whole or not legal, by the schema."""
    at = 0
    try:
        specs = message_spec(kind)[1:]
    except KeyError:
        return f"type {kind} is not known"
    for spec in specs:
        name, letter, size, low, high, unknown = parse_field(spec)
        number = int.from_bytes(body[at : at + size], "big", signed=letter in "bhiq")
        n = size + (number if letter in "sx" else 0)
        if at + n > len(body):
            return f"byte {at} of the body: {name} needs {plural(n, 'byte')}, {len(body) - at} are left"
        if not low <= number <= high and number != unknown:
            return f"byte {at} of the body, {body[at : at + size].hex()}: {name} is {number}, legal are {low} to {high}"
        at += n
    return "every field is whole and within its limits; text, a pair of fields, tail or type decides"


def _explain_batch(body: bytes, first: dict[str, Any], second: dict[str, Any]) -> str:
    codes, stop = codes_of_batch(body)
    if "reject" in first or "reject" in second:
        return stop or f"all {len(codes)} codes are whole; a value outside its range, or bits after the batch, decide"
    one, two = first["message"], second["message"]
    if one["resolution"] != two["resolution"] or len(one["rows"]) != len(two["rows"]):
        code = codes[0] if len(one["rows"]) != len(two["rows"]) else codes[1]
        return _place(code)
    parted = [
        code
        for code in codes
        if code.row >= 0
        and one["rows"][code.row][_COLUMNS.index(code.column)] != two["rows"][code.row][_COLUMNS.index(code.column)]
    ]
    times = [i for i, (a, b) in enumerate(zip(one["rows"], two["rows"], strict=True)) if a[0] != b[0]]
    if times and times[0] == 0:
        return _place(next(code for code in codes if "time of the first row" in code.meaning))
    if parted:
        code = min(parted, key=lambda code: (code.bit, code.row))
        return f"{_place(code)} (row {code.row})"
    return "a column that is absent from the batch"


def _place(code: Code) -> str:
    return f"bit {code.bit}, `{code.bits}`: {code.meaning}"
