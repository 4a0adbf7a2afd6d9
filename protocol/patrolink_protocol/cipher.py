"""Encryption of confidential bodies (SPEC.md, "Confidential bodies"): AES-128 in counter mode. MicroPython subset.

    key              first 16 bytes of a derived key of the direction and epoch, see `key_derivation`
    counter block    header of the frame as sent, 5 bytes | zeros, 7 bytes | number of the block from 0, 4 bytes

(NIST SP 800-38A, 6.5.) The header contains the frame's counter, which is used once in a direction and epoch, so that no
counter block is used twice under a key.
"""

try:
    import cryptolib  # noqa: F401 - only on MicroPython
except ImportError:
    from .cipher_cpython import FrameCipher  # noqa: F401 - for importers of this module
else:
    from .aes import encrypter, kernels

    # Views of the first blocks of a buffer, by their number. All keys share it: one frame is encrypted at a time.
    # Nine blocks are enough for a frame of 60 positions; others are encrypted in parts.
    _views = [memoryview(bytearray(144))]
    for i in range(9):
        _views.insert(i, _views[i][: 16 * i])

    class FrameCipher:
        """Encrypts and decrypts the frames of one direction of one device in one key epoch.

        Allocates nothing per frame.

        Args:
            key: 16 bytes.
        """

        def __init__(self, key):
            self.encrypt = encrypter(key)

        def apply(self, data, buf, start, end):
            """Encrypt buf[start:end] in place, or decrypt it: both are the same.

            Args:
                data: Buffer that begins with the header of the frame.
                buf: Writable buffer.
                start: Offset of the body.
                end: Offset of the tag; at most 1024 bytes after `start`.

            Raises:
                IndexError: The range is not within `buf`.
            """
            if not 0 <= start <= end <= len(buf) or end - start > 1024 or len(data) < 5:
                raise IndexError("the body is outside its buffer")
            number = 0
            while start < end:
                n = min(end - start, 144)
                count = (n + 15) >> 4
                kernels.fill_counter_blocks(_views[9], count, data, number)
                self.encrypt(_views[count], _views[9])
                kernels.xor_into(buf, start, n, _views[9], 0)
                start += n
                number += count
