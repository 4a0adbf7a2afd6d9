"""HMAC-SHA1 (RFC 2104, FIPS 180-4) of packets in place, for SRTP. MicroPython subset.

MicroPython's hashlib allocates an object and a digest per call; this module allocates nothing. CPython uses `hmac`.
"""

try:
    import hmac as _hmac
except ImportError:
    _hmac = None

if _hmac:

    class HmacSha1:
        """HMAC-SHA1 under one key of at most 64 bytes."""

        def __init__(self, key):
            self._key = key

        def tag_into(self, buf, n, extra, out, at, size):
            """Write the first `size` bytes of the HMAC of buf[:n] and `extra` (None or 4 bytes) to out[at:]."""
            data = bytes(buf[:n])
            if extra:
                data += extra
            out[at : at + size] = _hmac.digest(self._key, data, "sha1")[:size]

else:
    import array

    import micropython

    # Round constants and the 32-bit mask, in memory: they exceed the small integers of a 32-bit board.
    _K = array.array("I", [0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6, 0xFFFFFFFF])
    # Buffers shared by all keys: one HMAC is computed at a time.
    _W = array.array("I", [0] * 80)
    _LAST = bytearray(64)
    _STATE = array.array("I", [0] * 5)
    _DIGEST = bytearray(20)
    _START = array.array("I", [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0])

    @micropython.viper
    def _block(state, w, data, at: int, k):
        """Hash the 64 bytes data[at:] into the state. `w` is a buffer of 80 words."""
        h = ptr32(state)
        x = ptr32(w)
        p = ptr8(data)
        kk = ptr32(k)
        mask = uint(kk[4])
        i = 0
        while i < 16:
            j = at + 4 * i
            x[i] = (p[j] << 24) | (p[j + 1] << 16) | (p[j + 2] << 8) | p[j + 3]
            i += 1
        while i < 80:
            t = uint(x[i - 3] ^ x[i - 8] ^ x[i - 14] ^ x[i - 16])
            x[i] = (t << 1) | (t >> 31)
            i += 1
        a = uint(h[0])
        b = uint(h[1])
        c = uint(h[2])
        d = uint(h[3])
        e = uint(h[4])
        i = 0
        while i < 80:
            if i < 20:
                f = d ^ (b & (c ^ d))
                q = uint(kk[0])
            elif i < 40:
                f = b ^ c ^ d
                q = uint(kk[1])
            elif i < 60:
                f = (b & c) | (d & (b | c))
                q = uint(kk[2])
            else:
                f = b ^ c ^ d
                q = uint(kk[3])
            t = (((a << 5) | (a >> 27)) + f + e + q + uint(x[i])) & mask
            e = d
            d = c
            c = ((b << 30) | (b >> 2)) & mask
            b = a
            a = t
            i += 1
        h[0] = uint(h[0]) + a
        h[1] = uint(h[1]) + b
        h[2] = uint(h[2]) + c
        h[3] = uint(h[3]) + d
        h[4] = uint(h[4]) + e

    @micropython.viper
    def _finish(state, w, data, n: int, extra, more: int, last, k):
        """Hash data[:n] and `more` bytes of `extra` into a state that begins with a pad of 64 bytes, and finish it."""
        p = ptr8(data)
        x = ptr8(extra)
        tail = ptr8(last)
        bits = (64 + n + more) << 3
        at = 0
        while at + 64 <= n:
            _block(state, w, data, at, k)
            at += 64
        m = 0
        while at < n:
            tail[m] = p[at]
            m += 1
            at += 1
        i = 0
        while i < more:
            if m == 64:
                _block(state, w, last, 0, k)
                m = 0
            tail[m] = x[i]
            m += 1
            i += 1
        if m == 64:
            _block(state, w, last, 0, k)
            m = 0
        tail[m] = 0x80
        m += 1
        if m > 56:
            while m < 64:
                tail[m] = 0
                m += 1
            _block(state, w, last, 0, k)
            m = 0
        while m < 60:
            tail[m] = 0
            m += 1
        tail[60] = bits >> 24
        tail[61] = bits >> 16
        tail[62] = bits >> 8
        tail[63] = bits
        _block(state, w, last, 0, k)

    @micropython.viper
    def _copy(to, source):
        a = ptr32(to)
        b = ptr32(source)
        i = 0
        while i < 5:
            a[i] = b[i]
            i += 1

    @micropython.viper
    def _digest_into(state, out, at: int, size: int):
        h = ptr32(state)
        o = ptr8(out)
        i = 0
        while i < size:
            o[at + i] = h[i >> 2] >> (24 - 8 * (i & 3))
            i += 1

    class HmacSha1:
        """HMAC-SHA1 under one key of at most 64 bytes."""

        def __init__(self, key):
            pad = key + bytes(64 - len(key))
            self._inner = self._begin(bytes([b ^ 0x36 for b in pad]))
            self._outer = self._begin(bytes([b ^ 0x5C for b in pad]))

        def _begin(self, pad):
            state = array.array("I", _START)
            _block(state, _W, pad, 0, _K)
            return state

        def tag_into(self, buf, n, extra, out, at, size):
            """Write the first `size` bytes of the HMAC of buf[:n] and `extra` (None or 4 bytes) to out[at:]."""
            if n > len(buf) or at + size > len(out) or size > 20:
                raise IndexError("the data or the tag is outside its buffer")
            _copy(_STATE, self._inner)
            _finish(_STATE, _W, buf, n, extra or b"", 4 if extra else 0, _LAST, _K)
            _digest_into(_STATE, _DIGEST, 0, 20)
            _copy(_STATE, self._outer)
            _finish(_STATE, _W, _DIGEST, 20, b"", 0, _LAST, _K)
            _digest_into(_STATE, out, at, size)
