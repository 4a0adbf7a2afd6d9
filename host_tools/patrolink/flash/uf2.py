"""UF2 files (github.com/microsoft/uf2): firmware in blocks of 512 bytes that a boot loader takes in any order."""

import struct

BLOCK_BYTES = 512
RP2040 = 0xE48BFF56  # family id
_PAYLOAD_BYTES = 256
_START, _SECOND, _END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_FAMILY_PRESENT = 0x2000
_HEAD = struct.Struct("<8I")


def make(content: bytes, address: int, family: int) -> bytes:
    """Return a UF2 file.

    Args:
        content: The firmware.
        address: Where it lies in memory.
        family: Family id of the chip.
    """
    count = (len(content) + _PAYLOAD_BYTES - 1) // _PAYLOAD_BYTES
    blocks = []
    for i in range(count):
        at = i * _PAYLOAD_BYTES
        head = _HEAD.pack(_START, _SECOND, _FAMILY_PRESENT, address + at, _PAYLOAD_BYTES, i, count, family)
        payload = content[at : at + _PAYLOAD_BYTES]
        blocks.append((head + payload).ljust(BLOCK_BYTES - 4, b"\0") + struct.pack("<I", _END))
    return b"".join(blocks)


def is_uf2(content: bytes) -> bool:
    """Return whether a firmware is a UF2 file already."""
    return content[:8] == struct.pack("<2I", _START, _SECOND)


def families(content: bytes) -> set[int]:
    """Return the family ids of a UF2 file; 0 stands for a damaged block or one without an id."""
    ids = set()
    for at in range(0, len(content), BLOCK_BYTES):
        block = content[at : at + BLOCK_BYTES]
        whole = len(block) == BLOCK_BYTES and block[-4:] == struct.pack("<I", _END) and is_uf2(block)
        flags, family = struct.unpack_from("<8x I 16x I", block) if whole else (0, 0)
        ids.add(family if flags & _FAMILY_PRESENT else 0)
    return ids
