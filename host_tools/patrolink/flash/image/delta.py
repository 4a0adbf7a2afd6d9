"""Deltas between two agent contents (protocol/IMAGE.md, "Delta"). The matches are bsdiff's."""

import zlib
from collections.abc import Iterator

import bsdiff4.core

from patrolink.core.text import plural

COPY, ADD, INSERT, SEEK = range(4)  # kind of an operation
_WINDOW_BITS = 10  # of the raw deflate: a device has 1 KB for it
_NUMBER_BYTES_MAX = 5
_EQUAL_BYTES_MIN = (6, 10, 16)  # shortest run that becomes a copy; which one is best depends on the content


class DeltaError(ValueError):
    """A delta is damaged, or does not fit the base or the size of the new content."""


def make_delta(base: bytes, new: bytes) -> bytes:
    """Return the payload of a delta that makes `new`, not empty, of `base`. It was applied once to check it."""
    control, differences, extra = bsdiff4.core.diff(base, new)
    numbers = [bsdiff4.core.decode_int64(control[i : i + 8]) for i in range(0, len(control), 8)]
    matches = list(zip(*[iter(numbers)] * 3, strict=True))
    candidates = (
        _deflate(b"".join(_operations(matches, differences, extra, equal_min))) for equal_min in _EQUAL_BYTES_MIN
    )
    payload = min(candidates, key=len)
    if apply_delta(base, payload, len(new)) != new:
        raise AssertionError("the delta does not give the new content")
    return payload


def apply_delta(base: bytes, payload: bytes, size: int) -> bytes:
    """Return the new content of a delta; independent of the device's implementation.

    Args:
        base: Content that the delta was made for.
        payload: Payload of the delta.
        size: Bytes of the new content.

    Raises:
        DeltaError: As described there.
    """
    operations = _Operations(payload, size)
    new = bytearray()
    position, after_seek = 0, False
    while len(new) < size:
        number = operations.number()
        kind, n = number & 3, number >> 2
        if kind == SEEK:
            position += -(n >> 1) if n & 1 else n >> 1
            if after_seek or not 0 <= position <= len(base):
                raise DeltaError(f"seek to {position} in a base of {plural(len(base), 'byte')}")
            after_seek = True
            continue
        after_seek = False
        if not 0 < n <= size - len(new):
            raise DeltaError(f"{plural(n, 'byte')} of new content where {size - len(new)} are left")
        if kind == INSERT:
            new += operations.read(n)
            continue
        source = base[position : position + n]
        if len(source) != n:
            raise DeltaError(f"{plural(n, 'byte')} from {position} of a base of {plural(len(base), 'byte')}")
        position += n
        new += source if kind == COPY else bytes((a + b) & 255 for a, b in zip(source, operations.read(n), strict=True))
    operations.check_end()
    return bytes(new)


class _Operations:
    """Reads the operations of a payload."""

    def __init__(self, payload: bytes, size: int) -> None:
        decompressor = zlib.decompressobj(-_WINDOW_BITS)
        limit = (2 * _NUMBER_BYTES_MAX + 1) * size  # a byte of new content is at most two numbers and a byte
        try:
            self._data = decompressor.decompress(payload, limit + 1)
        except zlib.error as e:
            raise DeltaError(f"the operations cannot be decompressed: {e}") from None
        if not decompressor.eof or decompressor.unused_data:
            raise DeltaError("the compressed operations do not end where the payload ends")
        self._at = 0

    def read(self, n: int) -> bytes:
        data = self._data[self._at : self._at + n]
        if len(data) != n:
            raise DeltaError("the operations end before the new content is complete")
        self._at += n
        return data

    def number(self) -> int:
        value = 0
        for i in range(_NUMBER_BYTES_MAX):
            (byte,) = self.read(1)
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value
        raise DeltaError(f"a number of more than {_NUMBER_BYTES_MAX} bytes")

    def check_end(self) -> None:
        if self._at != len(self._data):
            raise DeltaError("operations after the end of the new content")


def _operations(matches: list[tuple[int, ...]], differences: bytes, extra: bytes, equal_min: int) -> Iterator[bytes]:
    """Yield the operations of bsdiff's matches: (bytes to add to the base, bytes to insert, distance to seek)."""
    at = inserted = distance = 0
    for add, insert, seek in matches:
        if add and distance:
            yield _number((distance << 1 if distance > 0 else -distance << 1 | 1) << 2 | SEEK)
            distance = 0
        yield from _add_operations(differences[at : at + add], equal_min)
        at += add
        if insert:
            yield _number(insert << 2 | INSERT) + extra[inserted : inserted + insert]
        inserted += insert
        distance += seek


def _add_operations(differences: bytes, equal_min: int) -> Iterator[bytes]:
    """Yield copies for runs of at least `equal_min` zeros, and additions for the bytes between them."""
    start = at = 0
    while at < len(differences):
        end = at
        while end < len(differences) and not differences[end]:
            end += 1
        if end - at >= equal_min or (end == len(differences) and end > at):
            yield from _add_operation(differences[start:at])
            yield _number(end - at << 2 | COPY)
            start = at = end
        else:
            at = end + 1
    yield from _add_operation(differences[start:])


def _add_operation(differences: bytes) -> Iterator[bytes]:
    if differences:
        yield _number(len(differences) << 2 | ADD) + differences


def _number(value: int) -> bytes:
    """Return a number: 7 bits per byte, lowest first; the highest bit is set in all bytes but the last."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS)
    return compressor.compress(data) + compressor.flush()
