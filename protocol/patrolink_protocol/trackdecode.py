"""Position batches back into rows. MicroPython subset. SPEC.md, "Position batch"."""

import patrolink_messages as m

from . import bits, track
from .frame import Reject

COLUMNS = track.COLUMNS
UNKNOWN = track.UNKNOWN


class BadBatch(Exception):
    """A batch body that no encoder makes. `name` is the reject reason."""

    def __init__(self, name, text):
        super().__init__(text)
        self.name = name


def decode(body):
    """Return (resolution, columns) of a batch body.

    `columns` maps each column's name to a list of integers in device units (UNKNOWN where not known), time being
    unix milliseconds. Raises BadBatch; nothing larger than 255 rows is ever allocated.
    """
    try:
        return _decode(bits.BitReader(body))
    except bits.OutOfBits:
        raise BadBatch("length", "the batch ends early")


def _decode(reader):
    n = reader.get_eg(0) + 1
    if n > m.MAX_BATCH:
        raise BadBatch("range", "%d rows" % n)
    resolution = reader.get(2) + 5
    tick = reader.get(2)
    if resolution > 7:
        raise BadBatch("range", "resolution code 3")
    every = (1 << len(track.OPTIONAL)) - 1
    present = every if reader.get(1) else reader.get(len(track.OPTIONAL))
    start = reader.get(32) * 1000
    if tick:
        start += reader.get(10)
    columns = {}
    for i, column in enumerate(COLUMNS):
        if column[7] and not present >> track.OPTIONAL.index(i) & 1:
            columns[column[0]] = [UNKNOWN] * n
        elif i == 0:
            columns["time"] = [start + t * track.TICKS_MS[tick] for t in _get_column(reader, 0, n, column)]
        else:
            columns[column[0]] = _known(_get_column(reader, _get_first(reader, column), n, column), column, resolution)
    spare = reader.spare()
    if spare:
        raise BadBatch("length", "bytes or bits after the batch")
    return resolution, columns


def _get_first(reader, column):
    if column[5] is None:
        return _signed(reader.get(column[4]), column[4])
    value = reader.get_eg(column[5])
    if value and column[6]:
        value = bits.unzigzag(value - 1) + 1 - column[2] // column[1]
    return value


def _signed(value, n):
    return value - (1 << n) if value >> (n - 1) else value


def _get_column(reader, first, n, column):
    values = [first]
    if n == 1:
        return values
    mode = reader.get(3)
    coding = mode & 3
    if coding == track.RAW:
        if mode != track.RAW:
            raise BadBatch("range", "raw second differences")
        for _ in range(n - 1):
            value = reader.get(column[4])
            values.append(_signed(value, column[4]) if column[5] is None else value)
        return values
    if coding not in (track.CONSTANT, track.FIXED):
        raise BadBatch("range", "column coding %d" % coding)
    delta = 0
    if mode & 4:
        delta = bits.unzigzag(reader.get_eg(0))
        values.append(first + delta)
    w = reader.get(6) if coding == track.FIXED else 0
    if coding == track.FIXED and not 1 <= w <= 34:
        raise BadBatch("range", "difference width %d" % w)
    for _ in range(n - len(values)):
        step = bits.unzigzag(reader.get(w)) if w else 0
        delta = delta + step if mode & 4 else step
        values.append(values[-1] + delta)
    return values


def _known(values, column, resolution):
    divisor = column[1] or 10 ** (7 - resolution)
    for i, value in enumerate(values):
        if column[7]:
            value -= 1
            if value < -1:
                raise BadBatch("range", "%s below zero" % column[0])
            if value < 0:
                values[i] = UNKNOWN
                continue
            if column[6]:
                value += column[2] // divisor
        value *= divisor
        # Rounding may carry a legal value half a divisor past its range.
        if not column[2] - divisor <= value <= column[3] + divisor:
            raise BadBatch("range", "%s %d" % (column[0], value))
        values[i] = value
    return values


_ROW = (  # column, key of the decoded row
    ("time", "time_ms"),
    ("alt", "alt_mm"),
    ("speed", "speed_mms"),
    ("course", "course_cd"),
    ("hacc", "hacc_mm"),
    ("sats", "sats"),
    ("battery", "battery_pct"),
)


def fixes(body):
    """Return (resolution, rows as dictionaries; None for unknown) of a batch body. Raises Reject."""
    try:
        resolution, columns = decode(body)
    except BadBatch as e:
        raise Reject(e.name, str(e))
    rows = []
    for i, state in enumerate(columns["state"]):
        mode = state & track.MODE_MASK
        if mode == 0:
            raise Reject("range", "mode 0")
        row = {"mode": mode, "flags": state >> 2}
        for column, key in _ROW:
            value = columns[column][i]
            row[key] = None if value == track.UNKNOWN else value
        row["lat_e7"] = columns["lat"][i] if mode > 1 else None
        row["lon_e7"] = columns["lon"][i] if mode > 1 else None
        if mode < 3:
            row["alt_mm"] = None
        rows.append(row)
    return resolution, rows
