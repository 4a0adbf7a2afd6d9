"""Bytes to NMEA 0183 sentences, and integers out of their fields. Allocates nothing per sentence.

Whatever is not a sentence (UBX, RTCM, SiRF binary, noise) is skipped and counted. A sentence without a checksum is
refused and counted as one with a bad checksum, as gpsd does (packet.c, nmea_checksum): it may be the stump of one.
"""

from .fix import UNKNOWN

_LONGEST = 128  # characters between "$" and the line end that gpsd accepts; the standard says 79
_HEX = b"\xff" * 48 + bytes(range(10)) + b"\xff" * 7 + bytes(range(10, 16)) + b"\xff" * 26 + bytes(range(10, 16))


class Framer:
    """Calls `on_sentence()` for each good sentence; its fields are read with the methods below until it returns.

    Counters: sentences, bad_checksum, overlong, skipped_bytes (outside any sentence, or in one that was given up).
    """

    def __init__(self, on_sentence):
        self._on_sentence = on_sentence
        self.line = bytearray(_LONGEST + 4)  # from after "$"
        self.ends = bytearray(_LONGEST + 4)  # offset after each field
        self.count = 0  # fields, the tag included
        self._at = -1  # next free offset; -1 between sentences
        self._commas = 0
        self._sum = 0
        self._star = 0  # offset of the last "*": the checksum is what follows it, fields end at the first
        self._want = 0
        self.sentences = 0
        self.bad_checksum = 0
        self.overlong = 0
        self.skipped_bytes = 0

    def feed(self, buf, n):
        """Take buf[:n]. Never raises, whatever the bytes are."""
        line = self.line
        ends = self.ends
        at = self._at
        commas = self._commas
        total = self._sum
        for i in range(n):
            c = buf[i]
            if 42 < c < 127:
                if at >= 0:
                    if c == 44:
                        ends[commas] = at
                        commas += 1
                    total ^= c
                    line[at] = c
                    at += 1
                    if at > _LONGEST:
                        self.overlong += 1
                        self.skipped_bytes += at
                        at = -1
                else:
                    self.skipped_bytes += 1
            elif c == 36:
                if at >= 0:
                    self.skipped_bytes += at + 1
                at = commas = total = 0
                self._star = 0
            elif at < 0:
                if c != 13 and c != 10:
                    self.skipped_bytes += 1
            elif c == 13 or c == 10:
                self._end(at)
                at = -1
            elif 31 < c < 127:
                if c == 42:
                    if not self._star:
                        ends[commas] = at
                        commas += 1
                        self.count = commas
                    self._star = at
                    self._want = total
                total ^= c
                line[at] = c
                at += 1
                if at > _LONGEST:
                    self.overlong += 1
                    self.skipped_bytes += at
                    at = -1
            else:
                self.skipped_bytes += at + 2
                at = -1
        self._at = at
        self._commas = commas
        self._sum = total

    def _end(self, at):
        star = self._star
        if not at:
            self.skipped_bytes += 1  # a "$" alone
            return
        if not star or at < star + 3:
            self.bad_checksum += 1
            return
        line = self.line
        high = line[star + 1]
        low = line[star + 2]
        # What is no hexadecimal digit is 0xff and makes 0xff or more; the sum of printable characters is below 0x80.
        if high > 102 or low > 102 or (_HEX[high] << 4 | _HEX[low]) != self._want:
            self.bad_checksum += 1
            return
        self.sentences += 1
        self._on_sentence()

    # --- fields of the sentence being handled; field 0 is the tag ---

    def first(self, f):
        """First character of field f, 0 when it is empty or not there."""
        if f >= self.count:
            return 0
        start = self.ends[f - 1] + 1
        return self.line[start] if start < self.ends[f] else 0

    def number(self, f, decimals):
        """Field f times 10^decimals, rounded half away from zero; UNKNOWN when it does not start like a number.

        Like C's atof it stops at the first character that cannot belong to a decimal number.
        """
        if f >= self.count:
            return UNKNOWN
        line = self.line
        i = self.ends[f - 1] + 1
        end = self.ends[f]
        if i >= end:
            return UNKNOWN
        negative = line[i] == 45
        if negative or line[i] == 43:
            i += 1
        value = 0
        digits = 0
        left = -1  # decimals still to take; -1 before the point
        while i < end:
            c = line[i]
            i += 1
            if 48 <= c <= 57:
                digits += 1
                if left < 0:
                    value = value * 10 + c - 48
                    if digits > 15:
                        return UNKNOWN
                elif left:
                    value = value * 10 + c - 48
                    left -= 1
                else:
                    if c >= 53:
                        value += 1
                    break
            elif c == 46 and left < 0:
                left = decimals
            else:
                break
        if not digits:
            return UNKNOWN
        if left < 0:
            left = decimals
        while left > 0:
            value *= 10
            left -= 1
        return -value if negative else value

    def degrees(self, f):
        """Field f, (d)ddmm.mmmm, in 1e-7 degrees, rounded half up; UNKNOWN when it is not of that form.

        Decimals of a minute beyond the seventh (0.2 mm) are not looked at.
        """
        if f >= self.count:
            return UNKNOWN
        line = self.line
        i = self.ends[f - 1] + 1
        end = self.ends[f]
        if end - i > 20:
            return UNKNOWN
        whole = 0
        point = 0
        while i < end:
            c = line[i]
            i += 1
            if 48 <= c <= 57:
                whole = whole * 10 + c - 48
            elif c == 46:
                point = i
                break
            else:
                return UNKNOWN
        if not point:
            return UNKNOWN
        degree = whole // 100
        minutes = whole - degree * 100
        left = 7
        while left and i < end:
            c = line[i]
            if c < 48 or c > 57:
                break
            minutes = minutes * 10 + c - 48
            i += 1
            left -= 1
        while left:
            minutes *= 10
            left -= 1
        return degree * 10000000 + (minutes + 30) // 60

    def time_of_day(self, f):
        """Field f, hhmmss(.sss), in ms of the day (86400000 and more in a leap second); UNKNOWN when malformed."""
        if f >= self.count:
            return UNKNOWN
        line = self.line
        i = self.ends[f - 1] + 1
        end = self.ends[f]
        if end - i < 6:
            return UNKNOWN
        value = self._pair(i) * 3600 + self._pair(i + 2) * 60 + self._pair(i + 4)
        if value < 0 or value > 362439:
            return UNKNOWN
        value *= 1000
        if end - i > 7 and line[i + 6] == 46:
            scale = 100
            i += 7
            while i < end and scale:
                c = line[i]
                if c < 48 or c > 57:
                    break
                value += (c - 48) * scale
                scale //= 10
                i += 1
        return value

    def _pair(self, i):
        """Two digits at offset i; a large negative number when they are not digits."""
        high = self.line[i] - 48
        low = self.line[i + 1] - 48
        return high * 10 + low if 0 <= high <= 9 and 0 <= low <= 9 else -1000000
