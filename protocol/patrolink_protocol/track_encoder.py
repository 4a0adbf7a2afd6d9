"""Encoder of position batches: rows of integers to a bit stream (SPEC.md, "Position batch"). MicroPython subset.

The first row is encoded in full (the keyframe). Each column is then encoded separately, with the coding that needs the
fewest bits: constant, fixed-width, Rice or zero runs over first or second differences, or raw values.
"""

from array import array

import patrolink_messages as m

from .native import const

try:
    from . import track_kernels as kernels
except SyntaxError:  # a MicroPython without the native code emitter
    from .native_fallback import load_interpreted

    kernels = load_interpreted(__file__[: __file__.rfind("/")] + "/track_kernels.py")

TICKS_MS = (1000, 100, 10, 1)
CONSTANT, FIXED, RICE, RAW = kernels.CONSTANT, kernels.FIXED, kernels.RICE, kernels.RAW
RUNS, ESCAPE = kernels.RUNS, kernels.ESCAPE
MODE_MASK, DATE_SUSPECT, ESTIMATED, DIFFERENTIAL = 3, 4, 8, 16
_OPTIONAL = const(7)  # index of the flag in a column
_SPAN_MS = const(1 << 29)  # longest time span of a batch, about six days
_ZERO_MS = const(537000000)  # stored time of the first row: above the span, and a multiple of 1 s


class RangeError(ValueError):
    """A row holds a value that the protocol cannot represent."""


def column_specs(resolution):
    """Return (name, low, high, divisor, bits, k, signed, optional, modulus) of each column.

    low to high is the legal range, `bits` the width of raw values, `k` the order of the keyframe's Exp-Golomb code (-1:
    plain bits), `modulus` 0 if the column is not cyclic. A named tuple would cost heap, and time for each field.

    Args:
        resolution: 5, 6 or 7.
    """
    out = []
    for spec in m.COLUMNS.split():
        part = spec.split(":")
        low, high, k, signed, optional, modulus = [int(p) for p in part[3:]]
        divisor, bits = [int(p.split(",")[(resolution - 5) % len(p.split(","))]) for p in part[1:3]]
        out.append((part[0], low, high, divisor, bits, k, signed, optional, modulus))
    return tuple(out)


class TrackEncoder:
    """Collects rows in preallocated columns and encodes them as position batches.

    Args:
        capacity: Maximum number of rows, 1 to MAX_BATCH.
        resolution: 5, 6 or 7: latitude and longitude are encoded in units of 10**-resolution degrees.
        rice: False to use only the baseline codings.
        omit: Names of optional columns to omit, because the host can derive them.

    Attributes:
        capacity: As given.
        resolution: As given.
        count: Number of rows collected.

    Raises:
        RangeError: capacity or resolution is out of range.
    """

    def __init__(self, capacity=60, resolution=6, rice=True, omit=()):
        if not 1 <= capacity <= m.MAX_BATCH or not 5 <= resolution <= 7:
            raise RangeError("capacity is 1..%d and resolution 5..7" % m.MAX_BATCH)
        self.capacity = capacity
        self.resolution = resolution
        self.count = 0
        self._rice = rice
        self._columns = column_specs(resolution)
        self._omit = tuple([c[0] in omit for c in self._columns])
        self._optional = sum([c[_OPTIONAL] for c in self._columns])
        # Stored values are unsigned: negative ranges start at their minimum, optional values at 1; 0 is unknown.
        self._base = []
        limits = []
        for _, low, high, divisor, _, _, signed, optional, modulus in self._columns[1:]:
            self._base.append(optional - (low // divisor if signed else 0))
            limits += [max(low, 0), max(-low, 0), high, divisor, modulus, optional, self._base[-1]]
        self._limits = array("I", limits)
        self._times = array("I", [0] * capacity)
        self._values = tuple([array("I", [0] * capacity) for _ in self._columns[1:]])
        self._codes = array("I", [0] * capacity)  # of the differences of the current column
        self._measured = array("I", [0] * 4)
        self._single = array("I", [0])
        self._day = 0
        self._ms = 0
        # The bit writer: offset of the next byte, pending bits, number of pending bits.
        self._buf = None
        self._writer = array("I", [0] * 3)

    def drop(self, n):
        """Remove the first n rows; the others keep their order and times."""
        times = self._times
        self.count -= n
        start = 0
        if self.count:
            start = times[n] - _ZERO_MS
            ms = self._ms + start
            self._day += ms // 86400000
            self._ms = ms % 86400000
        for i in range(self.count):
            times[i] = times[n + i] - start
            for values in self._values:
                values[i] = values[n + i]

    def accepts(self, day, ms):
        """Return True if a row of that time fits this batch."""
        if self.count == 0:
            return True
        return (
            self.count < self.capacity
            and -6 < day - self._day < 6
            and abs((day - self._day) * 86400000 + ms - self._ms) < _SPAN_MS
        )

    def add(self, day, ms, row):
        """Append a row.

        Args:
            day: Days since 1970-01-01.
            ms: Millisecond of the day.
            row: lat, lon, state, alt, ... in the units and order of the schema's columns. In an optional column,
                UNKNOWN or a value out of range is stored as unknown.

        Raises:
            RangeError: a value of a mandatory column is out of range, or the time does not fit; nothing is stored.
        """
        n = self.count
        if not self.accepts(day, ms) or not 0 <= day < 49710 or not 0 <= ms <= 86401000:
            raise RangeError("this time does not fit the batch; send the batch and begin another one")
        stored = kernels.quantize(row, self._limits, self._values, n)
        if stored < len(self._values):
            name, low, high = self._columns[1 + stored][:3]
            raise RangeError("%s %d is outside %d..%d" % (name, row[stored], low, high))
        if n == 0:
            self._day = day
            self._ms = ms
        self._times[n] = _ZERO_MS + (day - self._day) * 86400000 + ms - self._ms
        self.count = n + 1

    def encode_into(self, buf, start, n):
        """Write the first n rows as a batch body at buf[start:] and return the offset after it. The rows are kept.

        Raises:
            IndexError: `buf` is too short; try fewer rows.
            RangeError: n is outside 1..count.
        """
        if not 1 <= n <= self.count:
            raise RangeError("cannot encode %d rows: the encoder holds %d" % (n, self.count))
        self._buf = buf
        self._writer[0] = start
        self._writer[1] = self._writer[2] = 0
        tick = kernels.tick(self._times, n, self._ms % 1000)
        present = self._present(n)
        self._put_eg(n - 1, 0)
        self._put((self.resolution - 5) << 2 | tick, 4)
        if present == (1 << self._optional) - 1:
            self._put(1, 1)
        else:
            self._put(present, 1 + self._optional)
        self._put(self._day * 86400 + self._ms // 1000, 32)
        if tick:
            self._put(self._ms % 1000, 10)
        if n > 1:
            self._put_column(self._times, n, 32, TICKS_MS[tick], 0, _ZERO_MS)
        for i in range(len(self._values)):
            _, low, _, divisor, bits, k, signed, optional, modulus = self._columns[1 + i]
            if not optional or present & 1:
                values = self._values[i]
                value = values[0]
                base = 0 if optional else self._base[i]
                if k < 0:
                    self._put(value - base, bits)
                elif value and signed:
                    # Stored from the minimum to keep differences small; the keyframe counts from zero.
                    self._put_eg(_zigzag(value - 1 + low // divisor) + 1, k)
                else:
                    self._put_eg(value, k)
                if n > 1:
                    self._put_column(values, n, bits, 1, modulus, base)
            if optional:
                present >>= 1
        if self._writer[2]:
            self._put(0, 8 - self._writer[2])
        self._buf = None
        return self._writer[0]

    def fit_into(self, buf, start):
        """Write as many of the first rows as fit: all, a half, a quarter, and so on.

        Returns:
            (offset after the body, number of rows written).

        Raises:
            IndexError: `buf` is too short for one row.
        """
        n = self.count
        while True:
            try:
                return self.encode_into(buf, start, n), n
            except IndexError:
                if n == 1:
                    raise
                n = (n + 1) >> 1

    def _present(self, n):
        """Return a mask: bit j is set if optional column j has a known value in the first n rows."""
        present = 0
        bit = 1
        for i in range(len(self._values)):
            if self._columns[1 + i][_OPTIONAL]:
                if not self._omit[1 + i] and kernels.known(self._values[i], n):
                    present |= bit
                bit <<= 1
        return present

    def _put(self, value, n):
        """Append the `n` low bits of `value` (n up to 40)."""
        while n > 16:
            n -= 16
            self._put(value >> n, 16)
        self._single[0] = value & ((1 << n) - 1)
        self._put_codes(self._single, 0, 1, FIXED << 6 | n)

    def _put_eg(self, code, k):
        """Append the Exp-Golomb code of order `k` (ITU-T H.264 9.1, generalised) of the non-negative `code`."""
        code += 1 << k
        n = kernels.width(code)
        self._put(0, n - k - 1)
        self._put(code, n)

    def _put_codes(self, codes, start, n, coding):
        """Append codes[start:n] in a coding; raise IndexError if the buffer is full."""
        if not kernels.put(codes, start, n, coding, self._writer, self._buf, len(self._buf)):
            raise IndexError("no space for the batch")

    def _put_column(self, values, n, bits, unit, modulus, base):
        """Write the coding of one column and its values after the first."""
        codes = self._codes
        moved = kernels.first_differences(values, codes, n, unit, modulus)
        if not moved:
            self._put(CONSTANT, 3)
            return
        first = second = cost = bits * n << 8
        if moved > 0:
            first = self._cheapest(1, n)
            lead = codes[1]
            kernels.second_differences(codes, n, modulus)
            second = self._cheapest(2, n)
            cost = (second >> 8) + 2 * kernels.width(lead + 1) - 1
        if bits * (n - 1) <= min(cost, first >> 8):
            self._put(RAW, 3)
            for i in range(1, n):
                self._put((values[i] - base) // unit, bits)
        elif cost < first >> 8:
            self._put(4 | (second & 255) >> 6, 3)
            self._put_eg(lead, 0)
            self._put_differences(2, n, second & 255)
        else:
            kernels.first_differences(values, codes, n, unit, modulus)
            self._put((first & 255) >> 6, 3)
            self._put_differences(1, n, first & 255)

    def _cheapest(self, start, n):
        """Return bits << 8 | kind << 6 | parameter of the best coding of codes[start:n]."""
        measured = self._measured
        kernels.measure(self._codes, start, n, measured)
        wide = measured[0]
        if not wide:
            return 0
        n -= start
        w = kernels.width(wide)
        best = (6 + n * w) << 8 | FIXED << 6 | w
        if not self._rice:
            return best
        total = (measured[2] << 16) + measured[1]
        k = kernels.rice_parameter(n, min(total, 1 << 28))  # larger sums give the largest parameter
        cost = 4 + n * (k + 1) + max(0, 2 * total - n * ((1 << k) - 1) >> k + 1)
        best = min(best, cost << 8 | RICE << 6 | k)
        other = n - measured[3]
        if 3 * other <= n:
            k = 2
            while k < 4 and n // (other + 1) >> k + 1:
                k += 1
            # One run per code, and the code: two bits for plus or minus one, two more for each doubling.
            cost = 4 + (other + 1) * (k + 1) + 2 * other * kernels.width(total // (2 * other) | 1)
            best = min(best, cost << 8 | RICE << 6 | RUNS + k - 2)
        return best

    def _put_differences(self, start, n, coding):
        """Write the width or parameter of a coding, and the codes."""
        if coding >> 6 != CONSTANT:
            self._put(coding & 63, 6 if coding >> 6 == FIXED else 4)
            self._put_codes(self._codes, start, n, coding)


def _zigzag(value):
    """Map 0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ..."""
    return value << 1 if value >= 0 else ~(value << 1)
