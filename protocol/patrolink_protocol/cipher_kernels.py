"""Loops of `cipher`: machine code where MicroPython can emit it (see `native`). MicroPython subset."""

from patrolink_protocol.native import micropython, ptr8  # noqa: F401 - ptr8 is a type of viper


@micropython.viper
def fill_counter_blocks(blocks: ptr8, n: int, header: ptr8, first: int):
    """Write counter blocks: the header of a frame, 5 bytes; zeros; the number of the block, 4 bytes.

    Args:
        blocks: Writable buffer of at least 16 n bytes.
        n: Number of blocks.
        header: Buffer that begins with the header of the frame.
        first: Number of the first block; all numbers are below 65536.
    """
    i = 0
    while i < 16 * n:
        j = 0
        while j < 5:
            blocks[i + j] = header[j]
            j += 1
        while j < 14:
            blocks[i + j] = 0
            j += 1
        number = first + (i >> 4)
        blocks[i + 14] = number >> 8
        blocks[i + 15] = number & 255
        i += 16


@micropython.viper
def xor_into(buf: ptr8, start: int, n: int, stream: ptr8):
    """Combine buf[start : start + n] with the first n bytes of the key stream, in place.

    Args:
        buf: Writable buffer.
        start: Offset in `buf`.
        n: Number of bytes.
        stream: Key stream.
    """
    i = 0
    while i < n:
        buf[start + i] = buf[start + i] ^ stream[i]
        i += 1
