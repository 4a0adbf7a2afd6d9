"""Decoder of position batches (SPEC.md, "Position batch"). MicroPython subset.

Columns are extracted from one long integer, not bit by bit: three times as fast on CPython, as fast on MicroPython.
"""

import patrolink_enums as enums
import patrolink_messages as m

from . import track_encoder
from .errors import RejectError

COLUMNS = tuple([track_encoder.column_specs(r) for r in (5, 6, 7)])
_OPTIONAL = sum([c[7] for c in COLUMNS[0]])
_MAX_CODE_BITS = 36  # after the first one bit of a code


class _Bits:
    """A bit stream, most significant bit first. Methods raise RejectError if it ends early."""

    def __init__(self, data):
        self.left = len(data) * 8  # bits not yet read
        self._word = int.from_bytes(data, "big")

    def get(self, n):
        """Return the next n bits as a non-negative integer of any size."""
        left = self.left - n
        if left < 0:
            raise RejectError("length", "the batch ends early")
        self.left = left
        return (self._word >> left) & ((1 << n) - 1)

    def eg(self, k):
        """Return the next Exp-Golomb code of order k."""
        n = 0
        while not self.get(1):
            n += 1
            if n + k > _MAX_CODE_BITS:
                raise RejectError("range", "a code of more than %d bits after the first one" % _MAX_CODE_BITS)
        n += k
        return (1 << n) + self.get(n) - (1 << k)


def decode_columns(body):
    """Return (resolution, columns) of a batch body.

    `columns` maps the name of each column to a list of integers in row units, UNKNOWN where not known; time is unix
    time in ms. At most 255 rows are ever allocated.

    Raises:
        RejectError: the body is malformed.
    """
    bits = _Bits(body)
    n = bits.eg(0) + 1
    if n > m.MAX_BATCH:
        raise RejectError("range", "%d rows" % n)
    r = bits.get(2)
    tick = bits.get(2)
    if r > 2:
        raise RejectError("range", "resolution code 3")
    present = (1 << _OPTIONAL) - 1 if bits.get(1) else bits.get(_OPTIONAL)
    start = bits.get(32) * 1000
    if tick:
        ms = bits.get(10)
        if ms > 999:
            raise RejectError("range", "millisecond %d" % ms)
        start += ms
    unit = track_encoder.TICKS_MS[tick]
    times = [start + t * unit for t in _column(bits, 0, n, 32, True, 0)]
    if min(times) < 0 or max(times) > m.TIME_MAX_MS:
        raise RejectError("range", "time")
    columns = {"time": times}
    for name, low, high, divisor, width, k, signed, optional, modulus in COLUMNS[r][1:]:
        if optional:
            present, is_present = present >> 1, present & 1
            if not is_present:
                columns[name] = [enums.UNKNOWN] * n
                continue
        first = bits.get(width) if k < 0 else bits.eg(k)
        if signed:
            if not optional:
                first = _signed(first, width)
            elif first:
                first -= 1
                first = (-((first + 1) >> 1) if first & 1 else first >> 1) + 1 - low // divisor
        values = _column(bits, first, n, width, signed and not optional, modulus)
        columns[name] = _known(name, values, divisor, low, high, signed, optional, modulus)
    if bits.left > 7 or bits.get(bits.left):
        raise RejectError("length", "bytes or bits after the batch")
    for state in columns["state"]:
        if not state & track_encoder.MODE_MASK:
            raise RejectError("range", "mode 0")
    return r + 5, columns


def _signed(value, n):
    return value - (1 << n) if value >> (n - 1) else value


def _column(bits, first, n, width, signed, modulus):
    """Return the n stored values of a column, given the first one."""
    if n == 1:
        return [first]
    second = bits.get(1)
    kind = bits.get(2)
    if kind == track_encoder.RAW:
        if second:
            raise RejectError("range", "raw second differences")
        word = bits.get(width * (n - 1))
        mask = (1 << width) - 1
        values = [(word >> at) & mask for at in range(width * (n - 2), -1, -width)]
        if signed:
            values = [_signed(value, width) for value in values]
        return [first] + values
    values = [first]
    delta = 0
    if second:
        delta = bits.eg(0)
        delta = -((delta + 1) >> 1) if delta & 1 else delta >> 1
        first += delta
        values.append(first)
        n -= 1
    n -= 1
    if kind == track_encoder.CONSTANT:
        if not second:
            return values * (n + 1)
        for _ in range(n):
            first += delta
            values.append(first)
    else:
        codes = _fixed(bits, n) if kind == track_encoder.FIXED else _rice(bits, n)
        append = values.append
        if second:
            for code in codes:
                delta += -((code + 1) >> 1) if code & 1 else code >> 1
                first += delta
                append(first)
        else:
            for code in codes:
                first += -((code + 1) >> 1) if code & 1 else code >> 1
                append(first)
    if modulus:
        for i in range(1, len(values)):
            values[i] %= modulus
    return values


def _fixed(bits, n):
    w = bits.get(6)
    if not 1 <= w <= 34:
        raise RejectError("range", "difference width %d" % w)
    word = bits.get(w * n)
    mask = (1 << w) - 1
    return [(word >> at) & mask for at in range(w * (n - 1), -1, -w)]


def _rice(bits, n):
    k = bits.get(4)
    if k >= track_encoder.RUNS:
        return _runs(bits, n, k - track_encoder.RUNS + 2)
    codes = []
    get = bits.get
    for _ in range(n):
        q = 0
        while not get(1):
            q += 1
            if q == track_encoder.ESCAPE:
                codes.append((q << k) + bits.eg(k + 3))
                break
        else:
            codes.append(q << k | get(k))
    return codes


def _runs(bits, n, k):
    codes = []
    while len(codes) < n:
        run = bits.eg(k)
        if run > n - len(codes):
            raise RejectError("range", "a run past the end")
        codes += [0] * run
        if len(codes) < n:
            codes.append(bits.eg(0) + 1)
    return codes


def _known(name, values, divisor, low, high, signed, optional, modulus):
    """Return stored values in row units; raise RejectError for a value that no encoder stores."""
    if not optional:
        lowest = low // divisor
        offset = 0
    else:
        lowest = 0
        offset = (low // divisor if signed else 0) - 1
    # Rounding may carry a legal value to the next multiple of the divisor, no further.
    highest = max(values)
    if min(values) < lowest or (highest + offset) * divisor >= high + divisor or 0 < modulus <= highest:
        raise RejectError("range", name)
    if not optional:
        return values if divisor == 1 else [value * divisor for value in values]
    return [(value + offset) * divisor if value else enums.UNKNOWN for value in values]


_ROW_KEYS = (  # column, key of the decoded row
    ("alt", "alt_mm"),
    ("speed", "speed_mms"),
    ("course", "course_cd"),
    ("hacc", "hacc_mm"),
    ("sats", "sats"),
    ("battery", "battery_pct"),
)


def decode_rows(body):
    """Return (resolution, rows) of a batch body; a row is a dictionary with None for unknown values.

    Raises:
        RejectError: the body is malformed.
    """
    resolution, columns = decode_columns(body)
    rows = []
    for i, state in enumerate(columns["state"]):
        mode = state & track_encoder.MODE_MASK
        row = {
            "time_ms": columns["time"][i],
            "mode": mode,
            "flags": state >> 2,
            "lat_e7": columns["lat"][i] if mode > 1 else None,
            "lon_e7": columns["lon"][i] if mode > 1 else None,
        }
        for column, key in _ROW_KEYS:
            value = columns[column][i]
            row[key] = None if value == enums.UNKNOWN else value
        if mode < 3:
            row["alt_mm"] = None
        rows.append(row)
    return resolution, rows
