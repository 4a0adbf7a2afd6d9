"""Position batches: rows of integers in, a bit stream out. MicroPython subset. SPEC.md, "Position batch".

The first row is stated in full (the keyframe); each column is then coded on its own, by whichever coding takes the
fewest bits: constant or linear (no bits), fixed-width first or second differences, or raw values.
"""

from array import array

import patrolink_messages as m

from . import bits

COLUMNS = m.COLUMNS
UNKNOWN = -(1 << 30)  # in a row: this value is not known
NAMES = tuple([c[0] for c in COLUMNS])
OPTIONAL = tuple([i for i, c in enumerate(COLUMNS) if c[7]])
TICKS_MS = (1000, 100, 10, 1)
_SPAN_MS = 1 << 29  # a batch covers at most about six days
CONSTANT, FIXED, RAW = 0, 1, 3
MODE_MASK, DATE_SUSPECT, ESTIMATED, DIFFERENTIAL = 3, 4, 8, 16


class RangeError(ValueError):
    """A row holds a value that the protocol cannot state."""


def divide(value, divisor):
    """Return value / divisor rounded to the nearest integer, halves away from zero."""
    half = divisor >> 1
    return (value + half) // divisor if value >= 0 else -((half - value) // divisor)


class TrackEncoder:
    """Collects up to `capacity` rows in preallocated columns and writes them as one position batch.

    `resolution` is 5, 6 or 7: latitude and longitude go out in units of 10^-resolution degrees.
    """

    def __init__(self, capacity=60, resolution=6):
        if not 1 <= capacity <= m.MAX_BATCH or not 5 <= resolution <= 7:
            raise RangeError("capacity is 1..%d and resolution 5..7" % m.MAX_BATCH)
        self.capacity = capacity
        self.resolution = resolution
        self._divisors = tuple([c[1] or 10 ** (7 - resolution) for c in COLUMNS])
        self._columns = tuple([array("i", [0] * capacity) for _ in COLUMNS])
        self.count = 0
        self._day = 0
        self._ms = 0

    def drop(self, n):
        """Forget the first n rows; the rest keep their order and times."""
        times = self._columns[0]
        self.count -= n
        if self.count:
            ms = self._ms + times[n]
            self._day += ms // 86400000
            self._ms = ms % 86400000
            start = times[n]
            for i in range(self.count):
                times[n + i] -= start
        for values in self._columns:
            for i in range(self.count):
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
        if n == 0:
            self._day = day
            self._ms = ms
        self._columns[0][n] = (day - self._day) * 86400000 + ms - self._ms
        for i in range(1, len(COLUMNS)):
            column = COLUMNS[i]
            value = row[i - 1]
            if column[2] <= value <= column[3]:
                value = divide(value, self._divisors[i])
                if column[7]:
                    value += 1 - (column[2] // column[1] if column[6] else 0)
            elif column[7]:
                value = 0
            else:
                raise RangeError("%s %d is outside %d..%d" % (column[0], value, column[2], column[3]))
            self._columns[i][n] = value
        self.count = n + 1

    def encode_into(self, buf, start, n):
        """Write the first n rows as a batch body at buf[start:] and return the offset after it.

        IndexError when `buf` is too short for them: nothing is lost, try fewer. RangeError unless 1 <= n <= count.
        """
        if not 1 <= n <= self.count:
            raise RangeError("a batch of %d rows out of %d cannot be sent" % (n, self.count))
        out = bits.BitWriter(buf, start)
        tick = self._tick(n)
        present = self._present(n)
        out.put_eg(n - 1, 0)
        out.put((self.resolution - 5) << 2 | tick, 4)
        if present == (1 << len(OPTIONAL)) - 1:
            out.put(1, 1)
        else:
            out.put(present, 1 + len(OPTIONAL))
        out.put(self._day * 86400 + self._ms // 1000, 32)
        if tick:
            out.put(self._ms % 1000, 10)
        for i, column in enumerate(COLUMNS):
            if column[7] and not present >> OPTIONAL.index(i) & 1:
                continue
            values = self._columns[i]
            if i == 0:
                self._code_column(out, values, n, column, TICKS_MS[tick])
            else:
                _put_first(out, values[0], column)
                self._code_column(out, values, n, column, 1)
        return out.end()

    def _tick(self, n):
        """Index of the coarsest tick that states every time of the first n rows exactly."""
        times = self._columns[0]
        tick = 0
        for i in range(n):
            while times[i] % TICKS_MS[tick] or (tick == 0 and self._ms % 1000):
                tick += 1
        return tick

    def _present(self, n):
        """Bit j is set when optional column j has a known value in one of the first n rows."""
        present = 0
        for j, i in enumerate(OPTIONAL):
            values = self._columns[i]
            for row in range(n):
                if values[row]:
                    present |= 1 << j
                    break
        return present

    def _code_column(self, out, values, n, column, unit):
        if n == 1:
            return
        # Widest zigzag code of the first and of the second differences; OR instead of max: same bit length.
        wide1 = wide2 = 0
        previous = values[0]
        last = 0
        for i in range(1, n):
            value = values[i]
            delta = (value - previous) // unit
            wide1 |= bits.zigzag(delta)
            if i > 1:
                wide2 |= bits.zigzag(delta - last)
            previous = value
            last = delta
        w1 = bits.width(wide1)
        w2 = bits.width(wide2)
        first = bits.zigzag((values[1] - values[0]) // unit)
        cost1 = 5 + (n - 1) * w1
        cost2 = 5 + (n - 2) * w2 + 2 * bits.width(first + 1)
        if column[4] * (n - 1) <= min(cost1, cost2):
            out.put(RAW, 3)
            for i in range(1, n):
                out.put(values[i] // unit & ((1 << column[4]) - 1), column[4])
        elif cost2 < cost1:
            self._put_differences(out, values, n, unit, w2, first)
        else:
            self._put_differences(out, values, n, unit, w1, -1)

    def _put_differences(self, out, values, n, unit, w, first):
        """First differences when `first` is negative, else second ones after the zigzagged first difference."""
        order = 4 if first >= 0 else 0
        out.put(order | (FIXED if w else CONSTANT), 3)
        if first >= 0:
            out.put_eg(first, 0)
        if not w:
            return
        out.put(w, 6)
        previous = values[0]
        last = 0
        for i in range(1, n):
            value = values[i]
            delta = (value - previous) // unit
            if first < 0:
                out.put(bits.zigzag(delta), w)
            elif i > 1:
                out.put(bits.zigzag(delta - last), w)
            previous = value
            last = delta


# A signed optional column is stored counted from its minimum, so that its differences stay small; only its keyframe
# is zigzagged, so that values near zero are short.


def _put_first(out, value, column):
    if column[5] is None:
        out.put(value & ((1 << column[4]) - 1), column[4])
        return
    if value and column[6]:
        value = bits.zigzag(value - 1 + column[2] // column[1]) + 1
    out.put_eg(value, column[5])
