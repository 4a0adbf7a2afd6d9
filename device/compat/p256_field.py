"""Arithmetic modulo the prime of P-256 (SP 800-186), in place and without allocation.

On MicroPython each big integer is a new object, for which a nearly full heap has to be searched.

A number is 80 bytes: 20 limbs of 13 bits, lowest first, each in 32 bits of native byte order. It is in Montgomery form
(value times 2**260) and may exceed the prime: results of `multiply` are below 1.3 primes, results of `combine` between
0.9 and 2.1 primes. Both functions accept both kinds of results, and the output may be one of the inputs.
"""

import struct

try:
    import micropython
except ImportError:

    class _Pointer:
        """Model of a ptr32 over a memoryview of 32-bit numbers."""

        def __init__(self, view, at=0):
            self._view = view
            self._at = at

        def __getitem__(self, i):
            return self._view[self._at + i]

        def __setitem__(self, i, value):
            self._view[self._at + i] = value

        def __add__(self, n):
            return _Pointer(self._view, self._at + n // 4)

    class micropython:  # noqa: N801 - named like MicroPython's module
        """Replacement on CPython: passes buffers as pointers, as far as these loops need it."""

        @staticmethod
        def viper(function):
            """Return a function that replaces bytearrays by pointers."""

            def call(*args):
                return function(*[_Pointer(memoryview(a).cast("i")) if isinstance(a, bytearray) else a for a in args])

            return call

    def ptr32(pointer):
        """Return the pointer."""
        return pointer

    ptr8 = uint = ptr32

P = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1
_BYTES = 80
_R = 1 << 260
_POWER_STEP = 32  # bits of an exponent per step
_scratch = bytearray(2 * _BYTES)  # all zero except during a multiplication


@micropython.viper
def _multiply_limbs(t: ptr32, b: ptr32, a: ptr32, out: ptr32):
    # Row by row; a multiple of the prime makes the lowest limb of each row zero. The limbs of the prime are 2**13 - 1
    # (0 to 6), 31 (7), 1024 (14), 8184, 8191, 511 (17 to 19).
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
def _combine_limbs(a: ptr32, b: ptr32, out: ptr32, k: int):
    # m a + n b - h P, with h from the highest limbs so that one or two primes remain.
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
def _load_limbs(data: ptr8, at: int, out: ptr32):
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


def multiply(a, b, out):
    """Compute out = a b."""
    _multiply_limbs(_scratch, b, a, out)


def combine(a, m, b, n, out):
    """Compute out = m a + n b, with m in 0..8 and n in -8..7."""
    _combine_limbs(a, b, out, m << 4 | n + 8)


def load_montgomery(data, at, out):
    """Load 32 bytes of a big-endian number below P that is already in Montgomery form."""
    _load_limbs(data, at, out)


def to_montgomery(number=0):
    """Return the Montgomery form of an integer below P."""
    out = bytearray(_BYTES)
    _load_limbs((number * _R % P).to_bytes(32, "big"), 0, out)
    return out


def from_montgomery(a):
    """Return the integer below P of a Montgomery form."""
    out = bytearray(_BYTES)
    multiply(a, _UNIT, out)
    limbs = struct.unpack("20i", out)
    n = 0
    for i in range(19, -1, -1):
        n = n << 13 | limbs[i]
    return n % P


def is_zero(a):
    """Return True if a result of `combine` is zero modulo P."""
    return a == _ONCE or a == _TWICE


def power(a, e):
    """Steps (compat.steps) to a new number: a to the power e, where e is below 2**256."""
    out = to_montgomery(1)
    e = e.to_bytes(32, "big")
    for at in range(255, -1, -1):
        multiply(out, out, out)
        if e[31 - (at >> 3)] >> (at & 7) & 1:
            multiply(out, a, out)
        if not at % _POWER_STEP:
            yield
    return out


def _raw(n):
    return struct.pack("20i", *[n >> 13 * i & 8191 for i in range(20)])


_UNIT, _ONCE, _TWICE = bytearray(_raw(1)), _raw(P), _raw(2 * P)
