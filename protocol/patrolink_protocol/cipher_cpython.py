"""`cipher.FrameCipher` for CPython, with `cryptography`. Boards do not have this module."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_SUFFIXES = [bytes(7) + i.to_bytes(4, "big") for i in range(64)]  # of the counter blocks of the longest frame


class FrameCipher:
    """See `cipher.FrameCipher`.

    Attributes:
        encrypt_blocks: Function that returns the key stream of counter blocks, for many frames at once.
    """

    def __init__(self, key):
        ecb = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - counter mode is built on it
        self.encrypt_blocks = ecb.encryptor().update

    def apply(self, data, buf, start, end):
        """See `cipher.FrameCipher.apply`."""
        n = end - start
        if not 0 <= start <= end <= len(buf) or n > 16 * len(_SUFFIXES) or len(data) < 5:
            raise IndexError("the body is outside its buffer")
        if n:
            head = bytes(data[:5])
            stream = self.encrypt_blocks(head + head.join(_SUFFIXES[: (n + 15) >> 4]))
            mixed = int.from_bytes(buf[start:end], "big") ^ int.from_bytes(stream[:n], "big")
            buf[start:end] = mixed.to_bytes(n, "big")
