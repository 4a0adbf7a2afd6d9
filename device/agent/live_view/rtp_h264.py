"""An access unit of H.264 as RTP payloads (RFC 6184, packetization mode 1). MicroPython subset."""

from patrolink_protocol.native import const

KIND = 96  # RTP payload type
_STAP_A, _FU_A = const(24), const(28)
_SEI, _SPS, _PPS, _DELIMITER = const(6), const(7), const(8), const(9)


class H264Packetizer:
    """One access unit at a time."""

    def __init__(self):
        self._view = None
        self._units = []  # (begin, end) of the NAL units still to go
        self._at = 0  # in the first of them, when it goes in fragments

    def begin(self, access_unit):
        """Take an access unit (Annex B), which has to hold until the last `next`; return "" or what is wrong."""
        self._view = memoryview(access_unit)
        self._units = [it for it in units(access_unit) if access_unit[it[0]] & 31 != _DELIMITER]
        self._at = 0
        return "" if self._units else "it has no NAL unit"

    def more(self):
        """True while packets of the access unit are left."""
        return bool(self._units)

    def next(self, buf, at, room):
        """Put the next payload into buf[at:at + room] and return its length."""
        begin, end = self._units[0]
        together = self._together(room)
        if together > 1:
            return self._aggregate(buf, at, together)
        if end - begin <= room and not self._at:
            del self._units[0]
            buf[at : at + end - begin] = self._view[begin:end]
            return end - begin
        head = self._view[begin]
        first = not self._at
        if first:
            self._at = begin + 1
        n = min(room - 2, end - self._at)
        last = self._at + n == end
        buf[at] = head & 0xE0 | _FU_A
        buf[at + 1] = head & 31 | (0x80 if first else 0) | (0x40 if last else 0)
        buf[at + 2 : at + 2 + n] = self._view[self._at : self._at + n]
        self._at += n
        if last:
            self._at = 0
            del self._units[0]
        return 2 + n

    def _together(self, room):
        """How many of the next units, parameter sets and what belongs to them, fit into one packet."""
        n, count = 1, 0
        for begin, end in self._units:
            n += 2 + end - begin
            if self._view[begin] & 31 not in (_SEI, _SPS, _PPS) or n > room:
                break
            count += 1
        return count

    def _aggregate(self, buf, at, count):
        start, importance = at, 0
        at += 1
        for begin, end in self._units[:count]:
            importance = max(importance, self._view[begin] & 0x60)
            n = end - begin
            buf[at] = n >> 8
            buf[at + 1] = n & 255
            buf[at + 2 : at + 2 + n] = self._view[begin:end]
            at += 2 + n
        del self._units[:count]
        buf[start] = importance | _STAP_A
        return at - start


def units(data):
    """Return (begin, end) of each NAL unit of an Annex B byte string."""
    out = []
    at = data.find(b"\0\0\1")
    while at >= 0:
        begin = at + 3
        at = data.find(b"\0\0\1", begin)
        end = at if at >= 0 else len(data)
        while end > begin and not data[end - 1]:
            end -= 1
        if end > begin:
            out.append((begin, end))
    return out
