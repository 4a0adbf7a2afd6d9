"""H.264 access units as RTP payloads (RFC 6184, packetization mode 1). MicroPython subset."""

from patrolink_protocol.native import const

PAYLOAD_TYPE = 96
_STAP_A, _FU_A = const(24), const(28)
_SEI, _SPS, _PPS, _DELIMITER = const(6), const(7), const(8), const(9)


class H264Packetizer:
    """Packetizes one access unit at a time."""

    def __init__(self):
        self._view = None
        self._units = []  # (begin, end) of the NAL units that are left
        self._at = 0  # within the first of them, when it is sent in fragments

    def begin(self, access_unit):
        """Begin an access unit.

        Args:
            access_unit: In Annex B format; it must stay unchanged until the last `next`.

        Returns:
            "", or why it cannot be sent.
        """
        self._view = memoryview(access_unit)
        self._units = [unit for unit in nal_units(access_unit) if access_unit[unit[0]] & 31 != _DELIMITER]
        self._at = 0
        return "" if self._units else "it has no NAL unit"

    def more(self):
        """Return whether payloads of the access unit are left."""
        return bool(self._units)

    def next(self, buf, at, size_max):
        """Write the next payload into buf[at:at + size_max], and return its length."""
        begin, end = self._units[0]
        count = self._aggregate_count(size_max)
        if count > 1:
            return self._write_aggregate(buf, at, count)
        if end - begin <= size_max and not self._at:
            del self._units[0]
            buf[at : at + end - begin] = self._view[begin:end]
            return end - begin
        return self._write_fragment(buf, at, size_max)

    def _write_fragment(self, buf, at, size_max):
        begin, end = self._units[0]
        head = self._view[begin]
        first = not self._at
        if first:
            self._at = begin + 1
        n = min(size_max - 2, end - self._at)
        last = self._at + n == end
        buf[at] = head & 0xE0 | _FU_A
        buf[at + 1] = head & 31 | (0x80 if first else 0) | (0x40 if last else 0)
        buf[at + 2 : at + 2 + n] = self._view[self._at : self._at + n]
        self._at += n
        if last:
            self._at = 0
            del self._units[0]
        return 2 + n

    def _aggregate_count(self, size_max):
        """Return how many of the next units (parameter sets and SEI) fit into one packet."""
        n, count = 1, 0
        for begin, end in self._units:
            n += 2 + end - begin
            if self._view[begin] & 31 not in (_SEI, _SPS, _PPS) or n > size_max:
                break
            count += 1
        return count

    def _write_aggregate(self, buf, at, count):
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


def nal_units(data):
    """Return (begin, end) of each NAL unit in an Annex B byte string."""
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
