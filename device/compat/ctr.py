"""AES in counter mode (SP 800-38A) for MicroPython's unix port, which has only ECB. compat.crypto uses it."""

from patrolink_protocol.aes import kernels
from patrolink_protocol.native import micropython, ptr8

_STREAM_BYTES = 512  # key stream computed at once


@micropython.viper
def _fill_counters(blocks, n: int, first: int):
    """Write the numbers from `first` on into n blocks."""
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


class Ctr:
    """Counter mode from counter 0, for at most 2**30 blocks.

    Args:
        encrypt: Function encrypt(blocks, out): AES in ECB mode.
    """

    def __init__(self, encrypt):
        self._encrypt = encrypt
        self._stream = bytearray(_STREAM_BYTES)
        self._used = _STREAM_BYTES
        self._next_block = 0

    def apply(self, view):
        """Encrypt or decrypt the next bytes of the stream in place. Allocates nothing."""
        offset, n = 0, len(view)
        while offset < n:
            if self._used == _STREAM_BYTES:
                _fill_counters(self._stream, _STREAM_BYTES >> 4, self._next_block)
                self._encrypt(self._stream, self._stream)
                self._next_block += _STREAM_BYTES >> 4
                self._used = 0
            part = min(n - offset, _STREAM_BYTES - self._used)
            kernels.xor_into(view, offset, part, self._stream, self._used)
            offset += part
            self._used += part
