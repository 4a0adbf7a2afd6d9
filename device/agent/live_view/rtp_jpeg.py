"""A baseline JPEG as RTP payloads (RFC 2435). MicroPython subset; nothing is allocated for a packet.

Its tables travel in the first packet (Q 255). Huffman tables never travel: they have to be the ones of Annex K.
"""

from hashlib import sha256

from patrolink_protocol.native import const

KIND = 26  # RTP payload type
_TABLES = const(128)
# The first 8 bytes of SHA-256 of each Huffman table of Annex K, by its class and number.
_ANNEX_K = {
    0x00: b"\x9f\xb0\x4c\xb1\xa8\x07\x63\x18",
    0x10: b"\xf2\x7c\xe9\xb7\x18\xf9\x1c\xd4",
    0x01: b"\xaf\x48\xd4\xf6\x08\xdf\xb6\x82",
    0x11: b"\x8c\xf6\x0a\xa8\x35\xf8\x47\x4b",
}


class JpegPacketizer:
    """One picture at a time."""

    def __init__(self):
        self._tables = bytearray(_TABLES)
        self._quant = [-1, -1, -1, -1]  # where each stands in the picture
        self._view = None
        self._at = self._begin = self._end = 0
        self._type = self._restart = self._width = self._height = self._tq = 0

    def begin(self, picture):
        """Take a picture, which has to hold until the last `next`; return "" or why it cannot travel."""
        self._view = view = memoryview(picture)
        self._at = self._end = 0
        self._type = -1
        self._restart = 0
        for i in range(4):
            self._quant[i] = -1
        try:
            why = "it does not begin as a JPEG" if view[0] != 0xFF or view[1] != 0xD8 else self._headers(view)
        except IndexError:
            why = "it ends within its headers"
        if why:
            self._end = 0
        return why

    def _headers(self, p):
        at = 2
        while True:
            if p[at] != 0xFF:
                return "no marker where one has to be"
            marker = p[at + 1]
            n = p[at + 2] << 8 | p[at + 3]
            end = at + 2 + n
            if n < 2 or end > len(p):
                return "a header is longer than the picture"
            at += 4
            if marker == 0xDA:
                return self._scan(p, at, end)
            if marker == 0xDB:
                why = self._quantization(p, at, end)
            elif marker == 0xC4:
                why = _huffman(p, at, end)
            elif marker == 0xC0:
                why = self._frame(p, at, end)
            elif 0xC1 <= marker <= 0xCF:
                why = "it is not baseline"
            else:
                why = ""
                if marker == 0xDD:
                    self._restart = p[at] << 8 | p[at + 1]
            if why:
                return why
            at = end

    def _quantization(self, p, at, end):
        while at < end:
            if p[at] > 3 or at + 65 > end:
                return "a quantization table is not one of 8 bits"
            self._quant[p[at]] = at + 1
            at += 65
        return ""

    def _frame(self, p, at, end):
        height, width = p[at + 1] << 8 | p[at + 2], p[at + 3] << 8 | p[at + 4]
        if end - at != 15 or p[at] != 8 or p[at + 5] != 3:
            return "it is not 8 bits of three colours"
        if not 0 < width <= 2040 or not 0 < height <= 2040 or width & 7 or height & 7:
            return "its size is no multiple of 8 up to 2040"
        if p[at + 7] not in (0x21, 0x22) or p[at + 10] != 0x11 or p[at + 13] != 0x11 or p[at + 11] != p[at + 14]:
            return "it is neither 4:2:2 nor 4:2:0"
        self._type = 1 if p[at + 7] == 0x22 else 0
        self._width, self._height = width >> 3, height >> 3
        self._tq = (p[at + 8] & 3) << 2 | p[at + 11] & 3
        return ""

    def _scan(self, p, at, end):
        if self._type < 0 or p[at] != 3 or end - at != 10:
            return "it has more than one scan"
        luma, chroma = self._quant[self._tq >> 2], self._quant[self._tq & 3]
        if luma < 0 or chroma < 0:
            return "a quantization table is missing"
        for i in range(64):
            self._tables[i] = p[luma + i]
            self._tables[64 + i] = p[chroma + i]
        last = len(p)
        while last > end and not (p[last - 2] == 0xFF and p[last - 1] == 0xD9):
            last -= 1
        if last == end:
            return "it has no end"
        self._begin = self._at = end
        self._end = last - 2
        return ""

    def more(self):
        """True while packets of the picture are left."""
        return self._at < self._end

    def next(self, buf, at, room):
        """Put the next payload into buf[at:at + room] and return its length."""
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
            buf[at + 2] = buf[at + 3] = 0xFF  # first and last of its intervals: only the whole picture is decoded
            at += 4
        if not offset:
            buf[at] = buf[at + 1] = buf[at + 2] = 0
            buf[at + 3] = _TABLES
            buf[at + 4 : at + 4 + _TABLES] = self._tables
            at += 4 + _TABLES
        n = min(start + room - at, self._end - self._at)
        buf[at : at + n] = self._view[self._at : self._at + n]
        self._at += n
        return at + n - start


def _huffman(p, at, end):
    while at + 17 <= end:
        n = 17
        for i in range(16):
            n += p[at + 1 + i]
        if at + n > end or sha256(bytes(p[at : at + n])).digest()[:8] != _ANNEX_K.get(p[at]):
            return "its Huffman tables are not those of Annex K"
        at += n
    return ""
