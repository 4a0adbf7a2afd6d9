"""Baseline JPEGs as RTP payloads (RFC 2435). MicroPython subset; nothing is allocated for a packet.

The quantization tables are sent in the first packet (Q 255). Huffman tables are never sent: they must be those of
Annex K.
"""

from hashlib import sha256

from patrolink_protocol.native import const

PAYLOAD_TYPE = 26
_TABLES = const(128)
_SIZE_MAX = const(2040)
_DQT, _SOF0, _SOF1, _DHT, _SOF15, _SOS, _DRI = 0xDB, 0xC0, 0xC1, 0xC4, 0xCF, 0xDA, 0xDD
# The first 8 bytes of SHA-256 of each Huffman table of Annex K, by its class and number.
_ANNEX_K = {
    0x00: b"\x9f\xb0\x4c\xb1\xa8\x07\x63\x18",
    0x10: b"\xf2\x7c\xe9\xb7\x18\xf9\x1c\xd4",
    0x01: b"\xaf\x48\xd4\xf6\x08\xdf\xb6\x82",
    0x11: b"\x8c\xf6\x0a\xa8\x35\xf8\x47\x4b",
}


class JpegPacketizer:
    """Packetizes one picture at a time."""

    def __init__(self):
        self._tables = bytearray(_TABLES)
        self._quantization = [-1, -1, -1, -1]  # offset of each table in the picture
        self._view = None
        self._at = self._begin = self._end = 0  # of the scan
        self._type = self._restart = self._width = self._height = 0
        self._table_ids = 0  # numbers of the tables: of luma in bits 2 and 3, of chroma in bits 0 and 1

    def begin(self, picture):
        """Begin a picture.

        Args:
            picture: A JPEG; it must stay unchanged until the last `next`.

        Returns:
            "", or why it cannot be sent.
        """
        self._view = view = memoryview(picture)
        self._at = self._end = 0
        self._type = -1
        self._restart = 0
        for i in range(4):
            self._quantization[i] = -1
        try:
            is_jpeg = view[0] == 0xFF and view[1] == 0xD8
            reason = self._parse(view) if is_jpeg else "it does not begin like a JPEG"
        except IndexError:
            reason = "it ends within its headers"
        if reason:
            self._end = 0
        return reason

    def _parse(self, p):
        at = 2
        while True:
            if p[at] != 0xFF:
                return "a marker is missing"
            marker = p[at + 1]
            n = p[at + 2] << 8 | p[at + 3]
            end = at + 2 + n
            if n < 2 or end > len(p):
                return "a header is longer than the picture"
            at += 4
            if marker == _SOS:
                return self._parse_scan(p, at, end)
            reason = ""
            if marker == _DQT:
                reason = self._parse_quantization(p, at, end)
            elif marker == _DHT:
                reason = _check_huffman(p, at, end)
            elif marker == _SOF0:
                reason = self._parse_frame(p, at, end)
            elif _SOF1 <= marker <= _SOF15:
                reason = "it is not baseline"
            elif marker == _DRI:
                self._restart = p[at] << 8 | p[at + 1]
            if reason:
                return reason
            at = end

    def _parse_quantization(self, p, at, end):
        while at < end:
            if p[at] > 3 or at + 65 > end:
                return "a quantization table is not one of 8 bits"
            self._quantization[p[at]] = at + 1
            at += 65
        return ""

    def _parse_frame(self, p, at, end):
        height, width = p[at + 1] << 8 | p[at + 2], p[at + 3] << 8 | p[at + 4]
        if end - at != 15 or p[at] != 8 or p[at + 5] != 3:
            return "it does not have three components of 8 bits"
        if not 0 < width <= _SIZE_MAX or not 0 < height <= _SIZE_MAX or width & 7 or height & 7:
            return "its width and height are not a multiple of 8 up to 2040"
        if p[at + 7] not in (0x21, 0x22) or p[at + 10] != 0x11 or p[at + 13] != 0x11 or p[at + 11] != p[at + 14]:
            return "it is neither 4:2:2 nor 4:2:0"
        self._type = 1 if p[at + 7] == 0x22 else 0
        self._width, self._height = width >> 3, height >> 3
        self._table_ids = (p[at + 8] & 3) << 2 | p[at + 11] & 3
        return ""

    def _parse_scan(self, p, at, end):
        if self._type < 0 or p[at] != 3 or end - at != 10:
            return "it has more than one scan"
        luma, chroma = self._quantization[self._table_ids >> 2], self._quantization[self._table_ids & 3]
        if luma < 0 or chroma < 0:
            return "a quantization table is missing"
        for i in range(64):
            self._tables[i] = p[luma + i]
            self._tables[64 + i] = p[chroma + i]
        last = len(p)
        while last > end and not (p[last - 2] == 0xFF and p[last - 1] == 0xD9):
            last -= 1
        if last == end:
            return "its end marker is missing"
        self._begin = self._at = end
        self._end = last - 2
        return ""

    def more(self):
        """Return whether payloads of the picture are left."""
        return self._at < self._end

    def next(self, buf, at, size_max):
        """Write the next payload into buf[at:at + size_max], and return its length."""
        start, offset = at, self._at - self._begin
        restart = self._restart
        buf[at] = 0
        buf[at + 1] = offset >> 16
        buf[at + 2] = offset >> 8 & 255
        buf[at + 3] = offset & 255
        buf[at + 4] = self._type | (64 if restart else 0)
        buf[at + 5] = 255
        buf[at + 6] = self._width
        buf[at + 7] = self._height
        at += 8
        if restart:
            buf[at] = restart >> 8
            buf[at + 1] = restart & 255
            buf[at + 2] = buf[at + 3] = 0xFF  # F, L and count: the receiver decodes whole pictures only
            at += 4
        if not offset:
            buf[at] = buf[at + 1] = buf[at + 2] = 0
            buf[at + 3] = _TABLES
            buf[at + 4 : at + 4 + _TABLES] = self._tables
            at += 4 + _TABLES
        n = min(start + size_max - at, self._end - self._at)
        buf[at : at + n] = self._view[self._at : self._at + n]
        self._at += n
        return at + n - start


def _check_huffman(p, at, end):
    while at + 17 <= end:
        n = 17
        for i in range(16):
            n += p[at + 1 + i]
        if at + n > end or sha256(bytes(p[at : at + n])).digest()[:8] != _ANNEX_K.get(p[at]):
            return "its Huffman tables are not those of Annex K"
        at += n
    return ""
