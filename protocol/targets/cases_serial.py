"""Vectors of the serial line: frames in packets, and bytes from a line with the frames found in them.

The COBS coder is independent of the one that the host uses.
"""

import binascii
import random

import patrolink_messages as m

from .vectors import Vector, seal, time_sync


def _cobs(data: bytes) -> bytes:
    out = bytearray()
    block = bytearray()
    ends_full = False
    for byte in data:
        ends_full = False
        if byte:
            block.append(byte)
            if len(block) < 254:
                continue
            ends_full = True
        out += bytes([len(block) + 1]) + block
        block.clear()
    if not ends_full:  # no code follows a full block at the end
        out += bytes([len(block) + 1]) + block
    return bytes(out)


def _with_crc(frame: bytes) -> bytes:
    return frame + binascii.crc_hqx(frame, 0xFFFF).to_bytes(2, "big")


def packet(frame: bytes) -> bytes:
    """Return the packet of a frame."""
    return _cobs(_with_crc(frame)) + b"\0"


def _frames() -> list[tuple[str, str, bytes]]:
    """Return (name, description, frame) of frames with blocks of all kinds."""
    rnd = random.Random(15)
    full = bytes(rnd.randrange(1, 256) for _ in range(4096))
    cases = [("sync", "a genuine frame", seal(m.TIME_SYNC, time_sync(), 7)), ("example", "that of SPEC", b"\1\0\2")]
    for n in (252, 253, 254, 506, 1024):
        data = full[:n]
        while 0 in binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "big"):
            data = data[1:] + bytes([rnd.randrange(1, 256)])
        cases.append((f"no-zero-{n}", f"{n} bytes without a zero, with CRC {n + 2}", data))
    cases.append(("zeros", "1024 zero bytes", bytes(1024)))
    cases.append(("ends-in-zero", "zeros at both ends", b"\0" + full[:30] + b"\0"))
    return cases


def serial() -> list[Vector]:
    """Return all vectors of the serial line."""
    vectors: list[Vector] = []
    for name, about, frame in _frames():
        one = packet(frame)
        vectors.append(
            {
                "id": f"serial-{name}",
                "req": ["SERIAL-1"],
                "about": about,
                "frame": frame.hex(),
                "bytes": one.hex(),
                "frames": [frame.hex()],
                "invalid": 0,
            }
        )
    return vectors + _streams()


def _streams() -> list[Vector]:
    first, second = (seal(m.TIME_SYNC, time_sync(), counter) for counter in (1, 2))
    a, b = packet(first), packet(second)
    wrong_crc = _cobs(first + b"\x12\x34") + b"\0"
    full = bytes(range(1, 253)) + b"\x01\x01"
    padded = bytes([255]) + full[:252] + binascii.crc_hqx(full[:252], 0xFFFF).to_bytes(2, "big") + b"\x01\0"
    cases: list[tuple[str, str, str, bytes, list[bytes], int]] = [
        (
            "idle",
            "SERIAL-2",
            "zero bytes before, between and after packets",
            b"\0\0" + a + b"\0" + b + b"\0\0",
            [first, second],
            0,
        ),
        ("idle-only", "SERIAL-2", "zero bytes only", bytes(9), [], 0),
        ("opened-inside", "SERIAL-3", "the line is opened inside a packet", a[5:] + b, [second], 1),
        ("crc", "SERIAL-3", "a wrong CRC", wrong_crc + b, [second], 1),
        ("flipped", "SERIAL-3", "a bit error", bytes([*a[:9], a[9] ^ 4, *a[10:]]) + b, [second], 1),
        ("cut", "SERIAL-3", "a block that says more bytes than there are", b"\x09abc\0" + b, [second], 1),
        ("crc-only", "SERIAL-3", "a packet of a CRC alone", _cobs(b"\xff\xff") + b"\0" + b, [second], 1),
        ("one-byte", "SERIAL-3", "a packet of one byte", b"\x02\x41\0" + b, [second], 1),
        ("too-long", "SERIAL-3", "a packet of 1025 bytes", packet(bytes(1025)) + b, [second], 1),
        ("noise", "SERIAL-3", "4000 bytes without a zero", b"\x55" * 4000 + b"\0" + b, [second], 1),
        ("final-code", "SERIAL-1", "a code of 1 after a full last block", padded, [full[:252]], 0),
    ]
    return [
        {
            "id": f"serial-{name}",
            "req": [req],
            "about": about,
            "bytes": data.hex(),
            "frames": [frame.hex() for frame in frames],
            "invalid": invalid,
        }
        for name, req, about, data, frames, invalid in cases
    ]
