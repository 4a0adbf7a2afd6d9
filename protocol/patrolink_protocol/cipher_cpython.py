"""`cipher.FrameCipher` for CPython, on `aes_cpython`. Boards do not have this module."""

from .aes import kernels
from .aes_cpython import block_encrypter

_SUFFIXES = [bytes(7) + i.to_bytes(4, "big") for i in range(64)]  # of the counter blocks of the longest frame


class FrameCipher:
    """See `cipher.FrameCipher`.

    Attributes:
        encrypt_blocks: Function that returns the key stream of counter blocks, for many frames at once.
    """

    def __init__(self, key):
        self.encrypt_blocks = block_encrypter(key)

    def apply(self, data, buf, start, end):
        """See `cipher.FrameCipher.apply`."""
        n = end - start
        if not 0 <= start <= end <= len(buf) or n > 16 * len(_SUFFIXES) or len(data) < 5:
            raise IndexError("the body is outside its buffer")
        if n:
            head = bytes(data[:5])
            stream = self.encrypt_blocks(head + head.join(_SUFFIXES[: (n + 15) >> 4]))
            kernels.xor_into(buf, start, n, stream, 0)
