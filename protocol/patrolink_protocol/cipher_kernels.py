"""Loops of counter modes: machine code where MicroPython can emit it (see `native`). MicroPython subset."""

from patrolink_protocol.native import micropython, ptr8  # noqa: F401 - ptr8 is a type of viper


@micropython.viper
def fill_counter_blocks(out: ptr8, n: int, data: ptr8, first: int):
    """Write counter blocks: the header of a frame, 5 bytes; zeros; the number of the block, 4 bytes.

    Args:
        out: Writable buffer of at least 16 n bytes.
        n: Number of blocks.
        data: Buffer that begins with the header of the frame.
        first: Number of the first block; all numbers are below 65536.
    """
    i = 0
    while i < 16 * n:
        k = 0
        while k < 5:
            out[i + k] = data[k]
            k += 1
        while k < 14:
            out[i + k] = 0
            k += 1
        number = first + (i >> 4)
        out[i + 14] = number >> 8
        out[i + 15] = number & 255
        i += 16


@micropython.viper
def xor_into(buf: ptr8, start: int, n: int, stream: ptr8, used: int):
    """Combine buf[start : start + n] with n bytes of the key stream, in place.

    Args:
        buf: Writable buffer.
        start: Offset in `buf`.
        n: Number of bytes.
        stream: Key stream.
        used: Bytes of the key stream that come before.
    """
    i = 0
    while i < n:
        buf[start + i] = buf[start + i] ^ stream[used + i]
        i += 1
