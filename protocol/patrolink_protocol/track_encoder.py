"""Position batches: rows of integers in, a bit stream out. MicroPython subset. SPEC.md, "Position batch".

The first row is stated in full (the keyframe); each column is then coded on its own, by whichever coding takes the
fewest bits: constant, fixed-width, Rice or zero runs over first or second differences, or raw values.
"""

from array import array

import patrolink_messages as m

try:
    from . import track_kernels as kernels
except SyntaxError:  # a MicroPython that makes no machine code
    from .native_fallback import load_interpreted

    kernels = load_interpreted(__file__[: __file__.rfind("/")] + "/track_kernels.py")

TICKS_MS = (1000, 100, 10, 1)
CONSTANT, FIXED, RICE, RAW = kernels.CONSTANT, kernels.FIXED, kernels.RICE, kernels.RAW
RUNS, ESCAPE = kernels.RUNS, kernels.ESCAPE
MODE_MASK, DATE_SUSPECT, ESTIMATED, DIFFERENTIAL = 3, 4, 8, 16
_SPAN_MS = 1 << 29  # a batch covers at most about six days
_ZERO_MS = 537000000  # what stands for the first row's time in its column: above the span, and of whole seconds


class RangeError(ValueError):
    """A row holds a value that the protocol cannot state."""


def column_specs(resolution):
    """Return (name, min, max, divisor, raw bits, keyframe k or -1, signed, optional, modulus) of every column."""
    out = []
    for spec in m.COLUMNS.split():
        part = spec.split(":")
        low, high, k, signed, optional, modulus = [int(p) for p in part[3:]]
        divisor, bits = [int(p.split(",")[(resolution - 5) % len(p.split(","))]) for p in part[1:3]]
        out.append((part[0], low, high, divisor, bits, k, signed, optional, modulus))
    return tuple(out)


class TrackEncoder:
    """Collects up to `capacity` rows in preallocated columns and writes them as one position batch.

    `resolution` is 5, 6 or 7: latitude and longitude go out in units of 10^-resolution degrees. Without `rice` only
    the baseline codings are used. `omit` names optional columns that are left out, for a host to derive.
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
        self._optional = sum([c[7] for c in self._columns])
        # Values are unsigned: what may be negative is stored from its minimum, what is optional from 1; 0 is unknown.
        self._base = []
        limits = []
        for _, low, high, divisor, _, _, signed, optional, modulus in self._columns[1:]:
            self._base.append(optional - (low // divisor if signed else 0))
            limits += [max(low, 0), max(-low, 0), high, divisor, modulus, optional, self._base[-1]]
        self._limits = array("I", limits)
        self._times = array("I", [0] * capacity)
        self._values = tuple([array("I", [0] * capacity) for _ in self._columns[1:]])
        self._codes = array("I", [0] * capacity)  # of the steps of the column at hand
        self._told = array("I", [0] * 4)
        self._one = array("I", [0])
        self._day = 0
        self._ms = 0
        # The bit writer: where the next byte goes, and the bits that do not fill one yet.
        self._buf = None
        self._writer = array("I", [0] * 3)

    def drop(self, n):
        """Forget the first n rows; the rest keep their order and times."""
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
        """True when a row of that time still fits this batch."""
        if self.count == 0:
            return True
        return (
            self.count < self.capacity
            and -6 < day - self._day < 6
            and abs((day - self._day) * 86400000 + ms - self._ms) < _SPAN_MS
        )

    def add(self, day, ms, row):
        """Append a row: day since 1970-01-01, millisecond of that day, then `row` = lat, lon, state, alt, ...

        in the units and order of the schema's columns. UNKNOWN, or a value out of range, is stored as unknown where
        the column is optional. RangeError where it is not, or when `accepts` says no; nothing is stored then.
        """
        n = self.count
        if not self.accepts(day, ms) or not 0 <= day < 49710 or not 0 <= ms <= 86401000:
            raise RangeError("this time does not fit the batch; send it and start another")
        stored = kernels.quantise(row, self._limits, self._values, n)
        if stored < len(self._values):
            name, low, high = self._columns[1 + stored][:3]
            raise RangeError("%s %d is outside %d..%d" % (name, row[stored], low, high))
        if n == 0:
            self._day = day
            self._ms = ms
        self._times[n] = _ZERO_MS + (day - self._day) * 86400000 + ms - self._ms
        self.count = n + 1

    def encode_into(self, buf, start, n):
        """Write the first n rows as a batch body at buf[start:] and return the offset after it.

        IndexError when `buf` is too short for them: nothing is lost, try fewer. RangeError unless 1 <= n <= count.
        """
        if not 1 <= n <= self.count:
            raise RangeError("a batch of %d rows out of %d cannot be sent" % (n, self.count))
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
                    # Stored from its minimum, so that differences stay small; its first value is told from zero.
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
        """Write as many of the first rows as fit: all, a half, a quarter …; return (offset after them, rows).

        IndexError when `buf` is too short for one.
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
        """Bit j is set when optional column j has a known value in one of the first n rows."""
        present = 0
        bit = 1
        for i in range(len(self._values)):
            if self._columns[1 + i][7]:
                if not self._omit[1 + i] and kernels.known(self._values[i], n):
                    present |= bit
                bit <<= 1
        return present

    def _put(self, value, n):
        """Append the `n` low bits of `value` (n up to 40)."""
        while n > 16:
            n -= 16
            self._put(value >> n, 16)
        self._one[0] = value & ((1 << n) - 1)
        self._put_codes(self._one, 0, 1, FIXED << 6 | n)

    def _put_eg(self, code, k):
        """Append the Exp-Golomb code of order `k` (ITU-T H.264 9.1, generalised) of the non-negative `code`."""
        code += 1 << k
        n = kernels.width(code)
        self._put(0, n - k - 1)
        self._put(code, n)

    def _put_codes(self, codes, start, n, coding):
        """Append codes[start:n] in a coding; IndexError when there is no room."""
        if not kernels.put(codes, start, n, coding, self._writer, self._buf, len(self._buf)):
            raise IndexError("no room for the batch")

    def _put_column(self, values, n, bits, unit, modulus, base):
        """Write the coding of one column, and its values after the first."""
        codes = self._codes
        moved = kernels.first_steps(values, codes, n, unit, modulus)
        if not moved:
            self._put(CONSTANT, 3)
            return
        first = second = cost = bits * n << 8
        if moved > 0:
            first = self._cheapest(1, n)
            lead = codes[1]
            kernels.second_steps(codes, n, modulus)
            second = self._cheapest(2, n)
            cost = (second >> 8) + 2 * kernels.width(lead + 1) - 1
        if bits * (n - 1) <= min(cost, first >> 8):
            self._put(RAW, 3)
            for i in range(1, n):
                self._put((values[i] - base) // unit, bits)
        elif cost < first >> 8:
            self._put(4 | (second & 255) >> 6, 3)
            self._put_eg(lead, 0)
            self._put_steps(2, n, second & 255)
        else:
            kernels.first_steps(values, codes, n, unit, modulus)
            self._put((first & 255) >> 6, 3)
            self._put_steps(1, n, first & 255)

    def _cheapest(self, start, n):
        """Return bits << 8 | kind << 6 | parameter of the best coding of codes[start:n]."""
        told = self._told
        kernels.measure(self._codes, start, n, told)
        wide = told[0]
        if not wide:
            return 0
        n -= start
        w = kernels.width(wide)
        best = (6 + n * w) << 8 | FIXED << 6 | w
        if not self._rice:
            return best
        total = (told[2] << 16) + told[1]
        k = kernels.rice(n, min(total, 1 << 28))  # from there on it is the largest
        cost = 4 + n * (k + 1) + max(0, 2 * total - n * ((1 << k) - 1) >> k + 1)
        best = min(best, cost << 8 | RICE << 6 | k)
        other = n - told[3]
        if 3 * other <= n:
            k = 2
            while k < 4 and n // (other + 1) >> k + 1:
                k += 1
            # A run a code, and the code itself: two bits for plus or minus one, two more each time it doubles.
            cost = 4 + (other + 1) * (k + 1) + 2 * other * kernels.width(total // (2 * other) | 1)
            best = min(best, cost << 8 | RICE << 6 | RUNS + k - 2)
        return best

    def _put_steps(self, start, n, coding):
        """Write a coding's width or parameter, and the codes."""
        if coding >> 6 != CONSTANT:
            self._put(coding & 63, 6 if coding >> 6 == FIXED else 4)
            self._put_codes(self._codes, start, n, coding)


def _zigzag(value):
    """Map 0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ..."""
    return value << 1 if value >= 0 else ~(value << 1)
