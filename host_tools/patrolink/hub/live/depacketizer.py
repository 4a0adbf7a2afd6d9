"""RTP depacketizers of live view: JPEG (RFC 2435) and H.264 (RFC 6184, non-interleaved mode).

A depacketizer returns only pictures that are complete and decodable. Malformed payloads yield no picture.
"""

import re
from typing import Protocol

from patrolink.hub.live.jpeg_header import jpeg_header

JPEG_PAYLOAD_TYPE, H264_PAYLOAD_TYPE = 26, 96
MAX_PICTURE_BYTES = 1 << 20
_NAL_SPS, _NAL_IDR = 7, 5
_NAL_SINGLE, _NAL_STAP_A, _NAL_FU_A = range(1, 24), 24, 28
_START_CODE = b"\0\0\0\1"
_IDR_SLICE = re.compile(rb"\x00\x00\x00\x01[\x05\x25\x45\x65]")


class Depacketizer(Protocol):
    """Reassembles the pictures of one stream."""

    def push(self, payload: bytes, timestamp: int, marker: bool, index: int) -> bytes | None:
        """Add the payload of the next RTP packet, in order of sequence.

        Args:
            payload: RTP payload.
            timestamp: RTP timestamp at 90 kHz; all packets of a picture have the same.
            marker: RTP marker bit: last packet of a picture.
            index: SRTP packet index (RFC 3711, 3.3.1). A gap is a lost packet.

        Returns:
            The picture that this packet completes (a JPEG file, or an access unit in Annex B format), or None.
        """


class JpegDepacketizer:
    """Reassembles JPEG files (RFC 2435, types 0 and 1 with quantization tables in the first packet)."""

    def __init__(self) -> None:
        self._scan = bytearray()
        self._header = b""  # empty while there is no picture to add to
        self._timestamp = -1

    def push(self, payload: bytes, timestamp: int, marker: bool, index: int) -> bytes | None:
        """Add a payload; see `Depacketizer.push`. The fragment offset shows a loss, `index` is not needed."""
        if len(payload) < 8:
            return None
        offset = int.from_bytes(payload[1:4], "big")
        start = 12 if payload[4] & 64 else 8
        if not offset:
            start = self._begin(payload, timestamp)
        in_sequence = timestamp == self._timestamp and offset == len(self._scan)
        if not self._header or not in_sequence or offset + len(payload) > MAX_PICTURE_BYTES:
            self._header = b""
            return None
        self._scan += payload[start:]
        if not marker:
            return None
        picture = self._header + self._scan + b"\xff\xd9"
        self._header = b""
        return picture

    def _begin(self, payload: bytes, timestamp: int) -> int:
        """Build the file header from a picture's first payload and return where the scan starts in it.

        The header stays empty if the picture is not in the form that the agent sends.
        """
        self._header, self._timestamp = b"", timestamp
        self._scan.clear()
        jpeg_type, quality, width, height = payload[4:8]
        restart_interval, start = 0, 8
        if jpeg_type & 64:
            restart_interval, start = int.from_bytes(payload[8:10], "big"), 12
        tables = payload[start + 4 : start + 132]
        supported = jpeg_type & ~64 in (0, 1) and quality == 255 and payload[start : start + 4] == b"\0\0\0\x80"
        if supported and len(tables) == 128 and width and height and 0 not in tables:
            self._header = jpeg_header(jpeg_type & 1, 8 * width, 8 * height, tables, restart_interval)
        return start + 132


class H264Depacketizer:
    """Reassembles H.264 access units in Annex B format. After a loss it waits for a key frame."""

    def __init__(self) -> None:
        self._unit = bytearray()
        self._timestamp = -1
        self._next_index: int | None = None
        self._needs_key_frame = True
        self._nal_types: set[int] = set()  # in the current access unit

    def push(self, payload: bytes, timestamp: int, marker: bool, index: int) -> bytes | None:
        """Add a payload; see `Depacketizer.push`."""
        lost = index != self._next_index
        self._next_index = index + 1
        if lost or (timestamp != self._timestamp and self._unit):
            self._drop()
        self._timestamp = timestamp
        if not payload or len(self._unit) + len(payload) > MAX_PICTURE_BYTES or not self._append(payload):
            self._drop()
            return None
        if not marker:
            return None
        unit = bytes(self._unit)
        if {_NAL_SPS, _NAL_IDR} <= self._nal_types:
            self._needs_key_frame = False
        self._unit.clear()
        self._nal_types.clear()
        return None if self._needs_key_frame else unit

    def _drop(self) -> None:
        self._unit.clear()
        self._nal_types.clear()
        self._needs_key_frame = True

    def _append(self, payload: bytes) -> bool:
        nal_type = payload[0] & 31
        if nal_type in _NAL_SINGLE:
            self._add_nal(payload)
            return True
        if nal_type == _NAL_STAP_A:
            return self._append_aggregate(payload)
        if nal_type == _NAL_FU_A and len(payload) > 2:
            return self._append_fragment(payload)
        return False

    def _append_aggregate(self, payload: bytes) -> bool:
        pos = 1
        while pos + 2 <= len(payload):
            size = int.from_bytes(payload[pos : pos + 2], "big")
            if not size or pos + 2 + size > len(payload):
                return False
            self._add_nal(payload[pos + 2 : pos + 2 + size])
            pos += 2 + size
        return True

    def _append_fragment(self, payload: bytes) -> bool:
        if payload[1] & 0x80:
            self._add_nal(bytes((payload[0] & 0xE0 | payload[1] & 31,)))
        elif not self._unit:
            return False
        self._unit += payload[2:]
        return True

    def _add_nal(self, nal: bytes) -> None:
        self._unit += _START_CODE + nal
        self._nal_types.add(nal[0] & 31)


def is_key_frame(unit: bytes) -> bool:
    """Return True if an H.264 access unit can be decoded without earlier ones."""
    return _IDR_SLICE.search(unit) is not None


def create_depacketizer(payload_type: int) -> Depacketizer | None:
    """Return a depacketizer for an RTP payload type, or None if live view does not use the type."""
    if payload_type == JPEG_PAYLOAD_TYPE:
        return JpegDepacketizer()
    if payload_type == H264_PAYLOAD_TYPE:
        return H264Depacketizer()
    return None
