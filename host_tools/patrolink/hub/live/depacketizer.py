"""RTP payloads put together again: JPEG (RFC 2435) and H.264 (RFC 6184). What is wrong in them makes no picture."""

import re
import struct
from collections.abc import Callable

JPEG_KIND, H264_KIND = 26, 96  # RTP payload types
MOST = 1 << 20  # bytes of a picture
_SPS, _IDR = 7, 5
_START = b"\0\0\0\1"
_KEY = re.compile(rb"\x00\x00\x00\x01[\x05\x25\x45\x65]")
_SINGLE, _STAP_A, _FU_A = range(1, 24), 24, 28


# Annex K of the JPEG standard: class and number, how many codes of each length, symbols.
HUFFMAN = tuple(
    (number, bytes.fromhex(counts), bytes.fromhex(symbols))
    for number, counts, symbols in (
        (
            0x00,
            "00010501010101010100000000000000",
            "000102030405060708090a0b",
        ),
        (
            0x10,
            "0002010303020403050504040000017d",
            "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728"
            "292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a83848586878889"
            "8a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2"
            "e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa",
        ),
        (
            0x01,
            "00030101010101010101010000000000",
            "000102030405060708090a0b",
        ),
        (
            0x11,
            "00020102040403040705040400010277",
            "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a26"
            "2728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a828384858687"
            "88898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9da"
            "e2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa",
        ),
    )
)


class Jpeg:
    """Pictures of one view."""

    def __init__(self) -> None:
        self._scan = bytearray()
        self._headers = b""
        self._stamp = -1
        self._first = 0  # bytes of the scan in the first payload

    def take(self, payload: bytes, stamp: int, marker: bool) -> bytes | None:
        """Take the next payload in order of sequence; a picture that lacks one is left out."""
        if len(payload) < 8:
            return None
        offset = int.from_bytes(payload[1:4], "big")
        if not offset:
            self._begin(payload, stamp)
            at = len(payload) - self._first
        else:
            at = 12 if payload[4] & 64 else 8
        if not self._headers or stamp != self._stamp or offset != len(self._scan) or offset + len(payload) > MOST:
            self._headers = b""
            return None
        self._scan += payload[at:]
        if not marker:
            return None
        picture = self._headers + self._scan + b"\xff\xd9"
        self._headers = b""
        return picture

    def _begin(self, payload: bytes, stamp: int) -> None:
        """Make the headers that the first payload stands for; none when it is not as the agent sends it."""
        self._headers, self._stamp, self._first = b"", stamp, 0
        self._scan.clear()
        kind, quality, width, height = payload[4:8]
        at = 8
        restart = 0
        if kind & 64:
            restart = int.from_bytes(payload[8:10], "big")
            at = 12
        tables = payload[at + 4 : at + 132]
        if kind & ~64 not in (0, 1) or quality != 255 or payload[at : at + 4] != b"\0\0\0\x80":
            return
        if len(tables) != 128 or not width or not height or 0 in tables:
            return
        self._first = len(payload) - at - 132
        self._headers = headers(kind & 1, 8 * width, 8 * height, tables, restart)


def headers(kind: int, width: int, height: int, tables: bytes, restart: int) -> bytes:
    """Return all of a JPEG before its scan (RFC 2435 appendix B)."""
    out = b"\xff\xd8"
    for i in range(2):
        out += b"\xff\xdb" + struct.pack(">HB", 67, i) + tables[64 * i : 64 * i + 64]
    if restart:
        out += struct.pack(">HHH", 0xFFDD, 4, restart)
    sampling = 0x22 if kind else 0x21
    frame = (1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1)
    out += b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(frame)
    for number, counts, symbols in HUFFMAN:
        out += b"\xff\xc4" + struct.pack(">HB", 19 + len(symbols), number) + counts + symbols
    return out + b"\xff\xda" + struct.pack(">HB", 12, 3) + bytes((1, 0, 2, 0x11, 3, 0x11, 0, 63, 0))


class H264:
    """Access units of one view (Annex B)."""

    def __init__(self) -> None:
        self._unit = bytearray()
        self._stamp = -1
        self._next: int | None = None  # sequence number
        self._broken = True  # until a key frame
        self._kinds: set[int] = set()  # of its NAL units

    def take(self, payload: bytes, stamp: int, marker: bool, index: int) -> bytes | None:
        """Take the next payload in order of index; after one that is missing, nothing before a key frame."""
        gap = index != self._next
        self._next = index + 1
        if gap or (stamp != self._stamp and self._unit):
            self._drop()
        self._stamp = stamp
        if not payload or len(self._unit) + len(payload) > MOST or not self._add(payload):
            self._drop()
            return None
        if not marker:
            return None
        unit = bytes(self._unit)
        if {_SPS, _IDR} <= self._kinds:
            self._broken = False
        self._unit.clear()
        self._kinds.clear()
        return None if self._broken else unit

    def _drop(self) -> None:
        self._unit.clear()
        self._kinds.clear()
        self._broken = True

    def _add(self, payload: bytes) -> bool:
        kind = payload[0] & 31
        if kind in _SINGLE:
            self._unit += _START + payload
            self._kinds.add(kind)
        elif kind == _STAP_A:
            at = 1
            while at + 2 <= len(payload):
                n = int.from_bytes(payload[at : at + 2], "big")
                if not n or at + 2 + n > len(payload):
                    return False
                self._unit += _START + payload[at + 2 : at + 2 + n]
                self._kinds.add(payload[at + 2] & 31)
                at += 2 + n
        elif kind == _FU_A and len(payload) > 2:
            if payload[1] & 0x80:
                self._unit += _START + bytes((payload[0] & 0xE0 | payload[1] & 31,))
                self._kinds.add(payload[1] & 31)
            elif not self._unit:
                return False
            self._unit += payload[2:]
        else:
            return False
        return True


def is_key(unit: bytes) -> bool:
    """True when an access unit of H.264 can be decoded by itself."""
    return _KEY.search(unit) is not None


Take = Callable[[bytes, int, bool, int], bytes | None]


def assembler(kind: int) -> Take | None:
    """Return what puts payloads of an RTP payload type together; None for one that a live view has not."""
    if kind == H264_KIND:
        return H264().take
    if kind != JPEG_KIND:
        return None
    jpeg = Jpeg()
    return lambda payload, stamp, marker, index: jpeg.take(payload, stamp, marker)
