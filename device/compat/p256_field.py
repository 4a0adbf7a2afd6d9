"""Numbers modulo P-256's prime (SP 800-186) that are computed with in place, without an allocation.

On MicroPython a big integer is a new object each time, and a heap that is nearly full is searched for each of them.

A number is 80 bytes: 20 limbs of 13 bits, the lowest first, each 32 bits of the machine's order. It stands for itself
times 2^-260 (Montgomery's form), and may be larger than the prime: what `mul` gives is below 1.3 primes, what `mix`
gives between 0.9 and 2.1 of them. Both take what both give, and any of what they take may be where the result goes.
"""

import struct

try:
    import micropython
except ImportError:

    class _Pointer:
        """What a ptr32 is, over a memoryview of 32-bit numbers."""

        def __init__(self, view, at=0):
            self._view = view
            self._at = at

        def __getitem__(self, i):
            return self._view[self._at + i]

        def __setitem__(self, i, value):
            self._view[self._at + i] = value

        def __add__(self, n):
            return _Pointer(self._view, self._at + n // 4)

    class micropython:
        """Machine code's pointers, as far as these loops move them."""

        @staticmethod
        def viper(function):
            def call(*given):
                return function(*[_Pointer(memoryview(g).cast("i")) if isinstance(g, bytearray) else g for g in given])

            return call

    def ptr32(pointer):
        return pointer

    ptr8 = uint = ptr32

P = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1
_BYTES = 80
_R = 1 << 260
_POWER_STEP = 32  # bits of an exponent that a step takes
_work = bytearray(2 * _BYTES)  # zeros but in a product


@micropython.viper
def _product(t: ptr32, b: ptr32, a: ptr32, out: ptr32):
    # Row by row; each row's lowest limb is made zero by a multiple of the prime, whose limbs are 2^13 - 1 (0 to 6),
    # 31 (7), 1024 (14), 8184, 8191, 511 (17 to 19).
    i = 0
    x = 0
    while i < 20:
        x = a[0]
        t[0] = t[0] + x * b[0]
        t[1] = t[1] + x * b[1]
        t[2] = t[2] + x * b[2]
        t[3] = t[3] + x * b[3]
        t[4] = t[4] + x * b[4]
        t[5] = t[5] + x * b[5]
        t[6] = t[6] + x * b[6]
        t[7] = t[7] + x * b[7]
        t[8] = t[8] + x * b[8]
        t[9] = t[9] + x * b[9]
        t[10] = t[10] + x * b[10]
        t[11] = t[11] + x * b[11]
        t[12] = t[12] + x * b[12]
        t[13] = t[13] + x * b[13]
        t[14] = t[14] + x * b[14]
        t[15] = t[15] + x * b[15]
        t[16] = t[16] + x * b[16]
        t[17] = t[17] + x * b[17]
        t[18] = t[18] + x * b[18]
        t[19] = t[19] + x * b[19]
        x = t[0] & 8191
        t[1] = t[1] + (t[0] >> 13)
        t[0] = 0
        t[7] = t[7] + (x << 5)
        t[14] = t[14] + (x << 10)
        t[17] = t[17] + x * 8184
        t[18] = t[18] + x * 8191
        t[19] = t[19] + x * 511
        t = ptr32(uint(t) + 4)
        a = ptr32(uint(a) + 4)
        i += 1
    x = 0
    i = 0
    while i < 19:
        x += t[i]
        t[i] = 0
        out[i] = x & 8191
        x >>= 13
        i += 1
    out[19] = x


@micropython.viper
def _mixed(a: ptr32, b: ptr32, out: ptr32, k: int):
    # m a + n b - h P: h so that one or two primes are left, as far as the highest limbs tell.
    m = k >> 4
    n = (k & 15) - 8
    h = ((m * a[19] + n * b[19]) >> 9) - 1
    c = h
    i = 0
    while i < 19:
        c += m * a[i] + n * b[i]
        if i == 7:
            c -= h << 5
        elif i == 14:
            c -= h << 10
        elif i == 17:
            c += h << 3
        out[i] = c & 8191
        c >>= 13
        i += 1
    out[19] = c + m * a[19] + n * b[19] - (h << 9)


@micropython.viper
def _loaded(data: ptr8, at: int, out: ptr32):
    have = 0
    bits = 0
    i = 31
    j = 0
    while i >= 0:
        bits |= data[at + i] << have
        have += 8
        if have >= 13:
            out[j] = bits & 8191
            bits >>= 13
            have -= 13
            j += 1
        i -= 1
    out[j] = bits


def mul(a, b, out):
    """out = a b."""
    _product(_work, b, a, out)


def mix(a, m, b, n, out):
    """out = m a + n b; m 0 to 8, n -8 to 7."""
    _mixed(a, b, out, m << 4 | n + 8)


def load(data, at, out):
    """Take 32 bytes of a big-endian number below P that is in Montgomery's form."""
    _loaded(data, at, out)


def new(number=0):
    """Return a number below P."""
    out = bytearray(_BYTES)
    _loaded((number * _R % P).to_bytes(32, "big"), 0, out)
    return out


def number(a):
    """Return what it stands for, below P."""
    out = bytearray(_BYTES)
    mul(a, _UNIT, out)
    limbs = struct.unpack("20i", out)
    n = 0
    for i in range(19, -1, -1):
        n = n << 13 | limbs[i]
    return n % P


def is_zero(a):
    """Return whether what `mix` gave is nothing."""
    return a == _ONCE or a == _TWICE


def power(a, e):
    """Steps (compat.steps) to a new number, a to the power e, which is below 2^256."""
    out = new(1)
    e = e.to_bytes(32, "big")
    for at in range(255, -1, -1):
        mul(out, out, out)
        if e[31 - (at >> 3)] >> (at & 7) & 1:
            mul(out, a, out)
        if not at % _POWER_STEP:
            yield
    return out


def _raw(n):
    return struct.pack("20i", *[n >> 13 * i & 8191 for i in range(20)])


_UNIT, _ONCE, _TWICE = bytearray(_raw(1)), _raw(P), _raw(2 * P)
