"""AES in counter mode (SP 800-38A) where there is only ECB: MicroPython's unix port. compat.crypto uses it."""

from patrolink_protocol.native import micropython, ptr8

_ROOM = 512  # bytes of key stream made at once


@micropython.viper
def _number(blocks, n: int, first: int):
    """Make n blocks the numbers from `first` on."""
    p = ptr8(blocks)
    i = 0
    while i < 16 * n:
        p[i] = 0
        i += 1
    i = 0
    while i < n:
        number = first + i
        p[16 * i + 12] = number >> 24
        p[16 * i + 13] = number >> 16 & 255
        p[16 * i + 14] = number >> 8 & 255
        p[16 * i + 15] = number & 255
        i += 1


@micropython.viper
def _mix(buf, at: int, n: int, stream, used: int):
    p = ptr8(buf)
    s = ptr8(stream)
    i = 0
    while i < n:
        p[at + i] = p[at + i] ^ s[used + i]
        i += 1


class Ctr:
    """From counter 0, for at most 2^30 blocks. encrypt(blocks, out) is AES in ECB mode."""

    def __init__(self, encrypt):
        self._encrypt = encrypt
        self._stream = bytearray(_ROOM)
        self._used = _ROOM
        self._next = 0

    def apply(self, view):
        """Go on over bytes, in place. It allocates nothing."""
        at, n = 0, len(view)
        while at < n:
            if self._used == _ROOM:
                _number(self._stream, _ROOM >> 4, self._next)
                self._encrypt(self._stream, self._stream)
                self._next += _ROOM >> 4
                self._used = 0
            part = min(n - at, _ROOM - self._used)
            _mix(view, at, part, self._stream, self._used)
            at += part
            self._used += part
