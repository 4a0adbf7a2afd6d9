"""What of a new content a device has already: blocks of its present content at any offset, found by rolling CRC-32.

The device lists CRC-32 and a part of the SHA-256 of each whole block of its content (the idea of rsync). The window of
the CRC-32 rolls over the new content: a block that only moved is found at its new place.
"""

import functools
import hashlib
import threading
import zlib
from collections.abc import Iterator
from typing import NamedTuple

INDEX_BYTES = 1024
_ENTRY_BYTES, _CRC_BYTES = 8, 4
_lock = threading.Lock()


class Part(NamedTuple):
    """A part of the new content.

    Attributes:
        start: Offset in the new content.
        length: Length.
        source: Offset in the content of the device; None: it does not have this part.
    """

    start: int
    length: int
    source: int | None


def parts(content: bytes, index: bytes) -> list[Part]:
    """Return the parts that make up a content, in order.

    Args:
        content: The new content.
        index: Entries of 8 bytes: CRC-32 (little-endian) and four bytes of the SHA-256 of each INDEX_BYTES bytes of the
            content of the device.
    """
    with _lock:  # devices of a fleet often have the same content: compute once
        return _parts(content, index)


@functools.lru_cache(maxsize=8)
def _parts(content: bytes, index: bytes) -> list[Part]:
    entries = {index[at : at + _ENTRY_BYTES]: at // _ENTRY_BYTES for at in range(0, len(index), _ENTRY_BYTES)}
    known = {int.from_bytes(entry[:_CRC_BYTES], "little") for entry in entries}
    result: list[Part] = []
    end = 0
    for start, crc in _windows(content, known):
        if start < end:
            continue
        digest = hashlib.sha256(content[start : start + INDEX_BYTES]).digest()
        block = entries.get(crc.to_bytes(_CRC_BYTES, "little") + digest[: _ENTRY_BYTES - _CRC_BYTES])
        if block is not None:
            if start > end:
                result.append(Part(end, start - end, None))
            result.append(Part(start, INDEX_BYTES, block * INDEX_BYTES))
            end = start + INDEX_BYTES
    if end < len(content):
        result.append(Part(end, len(content) - end, None))
    return result


def _windows(content: bytes, known: set[int]) -> Iterator[tuple[int, int]]:
    """Yield (offset, CRC-32) of the windows whose CRC-32 is known."""
    if not known or len(content) < INDEX_BYTES:
        return
    table, leaving = _tables()
    crc = zlib.crc32(content[:INDEX_BYTES])
    if crc in known:
        yield 0, crc
    offset = zlib.crc32(bytes(INDEX_BYTES))  # the register that is not zero at first, after a window
    register = crc ^ offset
    known_registers = {value ^ offset for value in known}
    for start, (old, new) in enumerate(zip(content, content[INDEX_BYTES:], strict=False), 1):
        register = table[(register ^ new) & 0xFF] ^ register >> 8 ^ leaving[old]
        if register in known_registers:
            yield start, register ^ offset


@functools.cache
def _tables() -> tuple[list[int], list[int]]:
    """Return the table of CRC-32, and what a byte adds to the register INDEX_BYTES bytes later."""
    # CRC-32 is linear but for its initial and final value, which cancel out.
    table = [zlib.crc32(bytes([byte])) ^ zlib.crc32(b"\0") for byte in range(256)]
    zeros = bytes(INDEX_BYTES)
    return table, [zlib.crc32(bytes([byte]) + zeros) ^ zlib.crc32(b"\0" + zeros) for byte in range(256)]


def block_parts(content: bytes, index: bytes, block_bytes: int) -> list[list[Part]]:
    """Return the parts of each block of a content; adjacent copies are joined."""
    blocks: list[list[Part]] = [[] for _ in range(0, len(content), block_bytes)]
    for start, length, source in parts(content, index):
        while length:
            block = blocks[start // block_bytes]
            n = min(length, block_bytes - start % block_bytes)
            last = block[-1] if block else None
            joins = last is not None and None not in (last.source, source)
            if last is not None and joins and (last.source or 0) + last.length == source:
                block[-1] = last._replace(length=last.length + n)
            else:
                block.append(Part(start, n, source))
            start, length, source = start + n, length - n, None if source is None else source + n
    return blocks
