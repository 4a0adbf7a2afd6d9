"""Applies a delta: a stream of operations that make new content of the content in a slot (IMAGE.md, "Delta").

MicroPython subset. Needs two buffers of 512 bytes and the window of the decompressor.
"""

from agent.update import byte_loops
from patrolink_protocol.native import const

_COPY, _ADD, _INSERT, _SEEK = const(0), const(1), const(2), const(3)  # kind of an operation
BLOCK_BYTES = const(512)
_NUMBER_BYTES_MAX = const(5)


class DeltaError(Exception):
    """The operations are damaged, or do not fit the base or the size of the new content."""


def apply_delta(base, operations, size, write):
    """Steps (compat.steps), one per block of new content.

    The caller verifies the hashes of the base before and of the new content afterwards.

    Args:
        base: Content that the delta was made for: `size` in bytes, read_into(offset, view).
        operations: Stream of the operations, inflated (compat.inflate).
        size: Bytes of the new content.
        write: Called with each block of BLOCK_BYTES bytes in order, the last one may be shorter. The view is valid
            during the call.

    Raises:
        DeltaError: as described there; blocks before the fault were written.
    """
    out = memoryview(bytearray(BLOCK_BYTES))
    differences = memoryview(bytearray(BLOCK_BYTES))
    at = done = filled = 0
    after_seek = False
    while done < size:
        n = _read_number(operations, differences)
        kind = n & 3
        n >>= 2
        if kind == _SEEK:
            at += -(n >> 1) if n & 1 else n >> 1
            if after_seek or not 0 <= at <= base.size:
                raise DeltaError("seek to %d in a base of %d bytes" % (at, base.size))
            after_seek = True
            continue
        after_seek = False
        if not 0 < n <= size - done:
            raise DeltaError("%d bytes of new content where %d are left" % (n, size - done))
        if kind != _INSERT and n > base.size - at:
            raise DeltaError("%d bytes from %d of a base of %d bytes" % (n, at, base.size))
        while n:
            m = min(n, BLOCK_BYTES - filled)
            if kind == _INSERT:
                _read_exactly(operations, out[filled : filled + m])
            else:
                base.read_into(at, out[filled : filled + m])
                at += m
                if kind == _ADD:
                    _read_exactly(operations, differences[:m])
                    byte_loops.add(out, filled, differences, m)
            filled += m
            done += m
            n -= m
            if filled == BLOCK_BYTES or done == size:
                write(out[:filled])
                filled = 0
                yield
    if _read(operations, differences[:1]):
        raise DeltaError("operations after the end of the new content")


def _read_number(operations, buf):
    """Return the next number: 7 bits per byte, lowest first; the highest bit is set in all bytes but the last."""
    byte = buf[:1]
    number = 0
    for i in range(_NUMBER_BYTES_MAX):
        _read_exactly(operations, byte)
        number |= (byte[0] & 127) << 7 * i
        if byte[0] < 128:
            return number
    raise DeltaError("a number of more than %d bytes" % _NUMBER_BYTES_MAX)


def _read_exactly(operations, view):
    """Fill the view."""
    if _read(operations, view) != len(view):
        raise DeltaError("the operations end before the new content is complete")


def _read(operations, view):
    """Return the number of bytes read into the view; fewer than its length at the end of the stream."""
    try:
        return operations.readinto(view)
    except (OSError, EOFError):
        raise DeltaError("the operations cannot be decompressed") from None
