"""Bit streams, most significant bit first. MicroPython subset.

Accumulators stay below 2^24, so that nothing allocates on boards whose small integers have 31 bits.
Exp-Golomb codes of order k follow ITU-T H.264 (9.1) generalised to order k.
"""


class OutOfBits(Exception):
    """The stream ended inside a value, or a prefix is longer than any legal value has."""


def zigzag(value):
    """Map 0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ..."""
    return value << 1 if value >= 0 else ((-value) << 1) - 1


def unzigzag(code):
    """Undo `zigzag`."""
    return -((code + 1) >> 1) if code & 1 else code >> 1


def width(code):
    """Bits that the unsigned integer `code` needs; 0 for 0."""
    n = 0
    while code:
        code >>= 1
        n += 1
    return n


class BitWriter:
    """Writes into a caller's buffer from byte offset `start`; IndexError when the buffer is full."""

    def __init__(self, buf, start):
        self.buf = buf
        self.pos = start
        self._acc = 0
        self._n = 0

    def put(self, value, n):
        """Append the `n` low bits of the non-negative `value` (n up to 40)."""
        while n > 16:
            n -= 16
            self.put((value >> n) & 0xFFFF, 16)
        acc = (self._acc << n) | (value & ((1 << n) - 1))
        n += self._n
        buf = self.buf
        pos = self.pos
        while n >= 8:
            n -= 8
            buf[pos] = acc >> n
            pos += 1
            acc &= (1 << n) - 1
        self.pos = pos
        self._acc = acc
        self._n = n

    def put_eg(self, code, k):
        """Append the Exp-Golomb code of order `k` of the non-negative `code`."""
        code += 1 << k
        n = width(code)
        self.put(0, n - k - 1)
        self.put(code, n)

    def end(self):
        """Pad with zero bits to a byte; return the offset after the last byte."""
        if self._n:
            self.put(0, 8 - self._n)
        return self.pos


class BitReader:
    """Reads a bytes-like object; OutOfBits when it ends early."""

    def __init__(self, data):
        self._data = data
        self._pos = 0
        self._acc = 0
        self._n = 0

    def get(self, n):
        """Return the next `n` bits (0 to 40) as a non-negative integer."""
        value = 0
        while n > 16:
            n -= 16
            value = (value << 16) | self.get(16)
        acc = self._acc
        have = self._n
        while have < n:
            if self._pos >= len(self._data):
                raise OutOfBits()
            acc = (acc << 8) | self._data[self._pos]
            self._pos += 1
            have += 8
        have -= n
        self._acc = acc & ((1 << have) - 1)
        self._n = have
        return (value << n) | (acc >> have)

    def get_eg(self, k):
        """Return the next Exp-Golomb code of order `k`; values above 34 bits are refused."""
        zeros = 0
        while not self.get(1):
            zeros += 1
            if zeros + k > 34:
                raise OutOfBits()
        n = zeros + k
        return (1 << n) + self.get(n) - (1 << k)

    def spare(self):
        """Whole bytes not yet touched, plus 256 when the bits before the next byte are not all zero."""
        return len(self._data) - self._pos + (256 if self._acc else 0)
