"""Position batches: rows of integers in, a bit stream out. MicroPython subset. SPEC.md, "Position batch".

The first row is stated in full (the keyframe); each column is then coded on its own, by whichever coding takes the
fewest bits: constant, fixed-width, Rice or zero runs over first or second differences, or raw values.
"""

from array import array

import patrolink_messages as m

UNKNOWN = -(1 << 30)  # in a row: this value is not known
TICKS_MS = (1000, 100, 10, 1)
CONSTANT, FIXED, RICE, RAW = 0, 1, 2, 3
RUNS = 13  # Rice parameters from here on stand for zero runs of order 2, 3, 4
ESCAPE = 12  # zero bits of a quotient after which the rest is Exp-Golomb
MODE_MASK, DATE_SUSPECT, ESTIMATED, DIFFERENTIAL = 3, 4, 8, 16
_SPAN_MS = 1 << 29  # a batch covers at most about six days


class RangeError(ValueError):
    """A row holds a value that the protocol cannot state."""


def columns(resolution):
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
        self._columns = columns(resolution)
        self._omit = tuple([c[0] in omit for c in self._columns])
        self._optional = sum([c[7] for c in self._columns])
        self._values = tuple([array("i", [0] * capacity) for _ in self._columns])
        self._steps = [0] * capacity  # differences of the column at hand; a list, since they may need 34 bits
        self._day = 0
        self._ms = 0
        # The bit writer: where the next byte goes, and the bits that do not fill one yet.
        self._buf = None
        self._pos = self._acc = self._held = 0

    def drop(self, n):
        """Forget the first n rows; the rest keep their order and times."""
        times = self._values[0]
        self.count -= n
        start = 0
        if self.count:
            start = times[n]
            ms = self._ms + start
            self._day += ms // 86400000
            self._ms = ms % 86400000
        for values in self._values:
            for i in range(self.count):
                values[i] = values[n + i]
        for i in range(self.count):
            times[i] -= start

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
        i = 0
        for name, low, high, divisor, _, _, signed, optional, modulus in self._columns:
            if i:
                value = row[i - 1]
                if low <= value <= high:
                    half = divisor >> 1
                    value = (value + half) // divisor if value >= 0 else -((half - value) // divisor)
                    if optional:
                        if modulus and value == modulus - 1:
                            value = 0  # a full turn
                        value += 1
                        if signed:
                            value -= low // divisor
                elif optional:
                    value = 0
                else:
                    raise RangeError("%s %d is outside %d..%d" % (name, value, low, high))
                self._values[i][n] = value
            i += 1
        if n == 0:
            self._day = day
            self._ms = ms
        self._values[0][n] = (day - self._day) * 86400000 + ms - self._ms
        self.count = n + 1

    def encode_into(self, buf, start, n):
        """Write the first n rows as a batch body at buf[start:] and return the offset after it.

        IndexError when `buf` is too short for them: nothing is lost, try fewer. RangeError unless 1 <= n <= count.
        """
        if not 1 <= n <= self.count:
            raise RangeError("a batch of %d rows out of %d cannot be sent" % (n, self.count))
        self._buf = buf
        self._pos = start
        self._acc = self._held = 0
        tick = self._tick(n)
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
        i = 0
        for _, low, _, divisor, bits, k, signed, optional, modulus in self._columns:
            if not optional or present & 1:
                values = self._values[i]
                value = values[0]
                if i == 0:
                    divisor = TICKS_MS[tick]
                else:
                    if k < 0:
                        self._put(value, bits)
                    elif value and signed:
                        # Stored from its minimum, so that differences stay small; its first value is told from zero.
                        self._put_eg(_zigzag(value - 1 + low // divisor) + 1, k)
                    else:
                        self._put_eg(value, k)
                    divisor = 1
                if n > 1:
                    self._put_column(values, n, bits, divisor, modulus)
            if optional:
                present >>= 1
            i += 1
        if self._held:
            self._put(0, 8 - self._held)
        self._buf = None
        return self._pos

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

    def _tick(self, n):
        """Index of the coarsest tick that states every time of the first n rows exactly."""
        times = self._values[0]
        tick = 1 if self._ms % 1000 else 0
        for i in range(n):
            while times[i] % TICKS_MS[tick]:
                tick += 1
        return tick

    def _present(self, n):
        """Bit j is set when optional column j has a known value in one of the first n rows."""
        present = 0
        bit = 1
        for i in range(len(self._columns)):
            if self._columns[i][7]:
                if not self._omit[i]:
                    values = self._values[i]
                    for row in range(n):
                        if values[row]:
                            present |= bit
                            break
                bit <<= 1
        return present

    def _put(self, value, n):
        """Append the `n` low bits of `value` (n up to 40). Never more than 23 bits are held: small on any board."""
        while n > 16:
            n -= 16
            self._put(value >> n, 16)
        acc = (self._acc << n) | (value & ((1 << n) - 1))
        n += self._held
        while n >= 8:
            n -= 8
            self._buf[self._pos] = acc >> n
            self._pos += 1
            acc &= (1 << n) - 1
        self._acc = acc
        self._held = n

    def _put_eg(self, code, k):
        """Append the Exp-Golomb code of order `k` (ITU-T H.264 9.1, generalised) of the non-negative `code`."""
        code += 1 << k
        n = _width(code)
        self._put(0, n - k - 1)
        self._put(code, n)

    def _put_column(self, values, n, bits, unit, modulus):
        """Write the coding of one column, and its values after the first."""
        steps = self._steps
        half = modulus >> 1
        for i in range(1, n):
            step = (values[i] - values[i - 1]) // unit
            steps[i] = (step + half) % modulus - half if modulus else step
        first = self._cheapest(1, n)
        lead = _zigzag(steps[1])
        for i in range(n - 1, 1, -1):
            step = steps[i] - steps[i - 1]
            steps[i] = (step + half) % modulus - half if modulus else step
        second = self._cheapest(2, n)
        cost = (second >> 8) + 2 * _width(lead + 1) - 1
        if bits * (n - 1) <= min(cost, first >> 8):
            self._put(RAW, 3)
            for i in range(1, n):
                self._put(values[i] // unit, bits)
        elif cost < first >> 8:
            self._put(4 | (second & 255) >> 6, 3)
            self._put_eg(lead, 0)
            self._put_steps(2, n, second & 255)
        else:
            for i in range(2, n):
                step = steps[i] + steps[i - 1]
                steps[i] = (step + half) % modulus - half if modulus else step
            self._put((first & 255) >> 6, 3)
            self._put_steps(1, n, first & 255)

    def _cheapest(self, start, n):
        """Return bits << 8 | kind << 6 | parameter of the best coding of steps[start:n].

        Rice is judged by the sum of the codes, taking the low bits of each to be worth half of what they can be: within
        half a percent of trying every parameter.
        """
        steps = self._steps
        wide = total = zeros = 0
        for i in range(start, n):
            code = steps[i]
            if code:
                code = _zigzag(code)
                wide |= code
                total += code
            else:
                zeros += 1
        if not wide:
            return 0
        n -= start
        w = _width(wide)
        best = (6 + n * w) << 8 | FIXED << 6 | w
        if not self._rice:
            return best
        for k in range(13):
            cost = 4 + n * (k + 1) + max(0, 2 * total - n * ((1 << k) - 1) >> k + 1)
            best = min(best, cost << 8 | RICE << 6 | k)
        other = n - zeros
        if 3 * other <= n:
            k = 2
            while k < 4 and n // (other + 1) >> k + 1:
                k += 1
            # A run a code, and the code itself: two bits for plus or minus one, two more each time it doubles.
            cost = 4 + (other + 1) * (k + 1) + 2 * other * _width(total // (2 * other) | 1)
            best = min(best, cost << 8 | RICE << 6 | RUNS + k - 2)
        return best

    def _put_steps(self, start, n, mode):
        k = mode & 63
        steps = self._steps
        if mode >> 6 == FIXED:
            self._put(k, 6)
            for i in range(start, n):
                self._put(_zigzag(steps[i]), k)
        elif mode >> 6 == RICE:
            self._put(k, 4)
            run = 0
            for i in range(start, n):
                code = _zigzag(steps[i])
                if k < RUNS:
                    quotient = code >> k
                    if quotient < ESCAPE:
                        self._put(0, quotient)
                        self._put(1 << k | code & (1 << k) - 1, k + 1)
                    else:
                        self._put(0, ESCAPE)
                        self._put_eg(code - (ESCAPE << k), k + 3)
                elif code:
                    self._put_eg(run, k - RUNS + 2)
                    self._put_eg(code - 1, 0)
                    run = 0
                else:
                    run += 1
            if run:
                self._put_eg(run, k - RUNS + 2)


def _zigzag(value):
    """Map 0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ..."""
    return value << 1 if value >= 0 else ~(value << 1)


def _width(code):
    n = 0
    while code:
        code >>= 1
        n += 1
    return n
