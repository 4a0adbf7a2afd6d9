"""Loops over the bytes of a receiver, as machine code where MicroPython supports it (patrolink_protocol.native).

The specification of `fields` has one character per field; the first stands for the tag:

    .     skipped
    c     code of the first character
    m     set of capital letters: bit 0 for A ... bit 25 for Z (mode indicators, one letter a constellation)
    0-3   decimal number times 10^0 ... 10^3, rounded half away from zero. As in C's atof, conversion stops at the first
          character that cannot be part of a number. UNKNOWN if no digit precedes it, or if the result has more than
          nine digits
    n, e  ddmm.mmmm or dddmm.mmmm and the hemisphere in the next field, in 1e-7 degrees, rounded half away from zero,
          north and east positive. The decimals are optional, and those after the seventh (0.2 mm) are ignored. Up to
          two leading zeros may be missing, but fewer than three digits before the point are not minutes (NMEA 0183
          demands all): degrees in place of minutes, or lost characters. Not counted as a coordinate if malformed, with
          more than 60 minutes, or if either field is empty
    t     hhmmss(.sss) in ms of the day (86400000 and more in a leap second); UNKNOWN if malformed
    d     six digits; UNKNOWN if malformed
"""

import patrolink_enums as enums
from patrolink_protocol.native import const, micropython, ptr8, ptr32  # noqa: F401

_LONGEST = const(128)  # characters between "$" and line end: gpsd's limit; the standard allows 79
_QUARTER = const(900000000)  # 90 degrees; 180 degrees need more than 30 bits
EMPTY = const(1 - (1 << 30))

# For each byte: 0 if it is plain content of a sentence.
SPECIAL = b"\1" * 32 + bytes([c in b"$*," for c in range(32, 127)]) + b"\1" * 129

# Indices into the framer's state.
_AT = const(0)  # 1 + next free offset in the line; 0 between sentences
_COMMAS = const(1)
_SUM = const(2)
_STAR = const(3)  # offset of the last "*", which precedes the checksum; fields end at the first "*"
_WANT = const(4)
COUNT = const(5)  # number of fields, the tag included
KIND = const(6)  # last three letters of the tag as a number; 0 if the tag has not 5 letters
# The caller reads these counters and resets them, at least every 2^30 bytes.
BAD = const(7)  # sentences with a bad checksum
OVERLONG = const(8)
SKIPPED = const(9)  # bytes


@micropython.viper
def frame(buf: ptr8, i: int, n: int, state: ptr32, line: ptr8, ends: ptr8, special: ptr8) -> int:
    """Process buf[i:n] up to the end of the first valid sentence.

    Args:
        buf: Received bytes.
        i: Offset of the first byte to process.
        n: Number of bytes in `buf`.
        state: Ten integers, kept between calls.
        line: Receives the sentence from after "$"; _LONGEST + 4 bytes.
        ends: Receives the offset after each field; as long as `line`.
        special: The table SPECIAL.

    Returns:
        The offset after the sentence; without one, 0, or -1 if a counter in `state` is not zero.
    """
    at = state[_AT] - 1
    total = state[_SUM]
    commas = state[_COMMAS]
    skipped = 0
    good = 0
    while i < n:
        if at >= 0:
            stop = i + _LONGEST - at
            if stop > n:
                stop = n
            while i < stop:
                c = buf[i]
                if special[c]:
                    if c != 44:
                        break
                    ends[commas] = at
                    commas += 1
                total ^= c
                line[at] = c
                at += 1
                i += 1
            if i == n:
                break
        c = buf[i]
        i += 1
        if at < 0:
            if c == 36:
                at = commas = total = 0
                state[_STAR] = 0
            elif c != 13 and c != 10:
                skipped += 1
            continue
        if c > 31 and c < 127 and c != 36:
            if c == 44:
                ends[commas] = at
                commas += 1
            elif c == 42:
                if state[_STAR] == 0:
                    ends[commas] = at
                    commas += 1
                    state[COUNT] = commas
                state[_STAR] = at
                state[_WANT] = total
            total ^= c
            line[at] = c
            at += 1
            if at > _LONGEST:
                state[OVERLONG] += 1
                skipped += at
                at = -1
            continue
        if c == 36:
            skipped += at + 1
            at = commas = total = 0
            state[_STAR] = 0
        elif c != 13 and c != 10:
            skipped += at + 2
            at = -1
        elif at == 0:
            skipped += 1  # only "$"
            at = -1
        else:
            star = state[_STAR]
            checksum = 256
            if star and at >= star + 3:
                checksum = 0
                at = star + 1
                while at < star + 3:
                    c = line[at]
                    at += 1
                    if c >= 97:
                        c -= 32
                    if c >= 48 and c <= 57:
                        c -= 48
                    elif c >= 65 and c <= 70:
                        c -= 55
                    else:
                        c = 256
                    checksum = checksum << 4 | c
            at = -1
            # A character that is no hexadecimal digit gives 0x100 or more; a sum of printable characters is below 0x80.
            if checksum == state[_WANT]:
                state[KIND] = line[2] << 16 | line[3] << 8 | line[4] if ends[0] == 5 else 0
                good = i
                break
            state[BAD] += 1
    state[_AT] = at + 1
    state[_SUM] = total
    state[_COMMAS] = commas
    skipped += state[SKIPPED]
    state[SKIPPED] = skipped
    if good == 0 and skipped | state[BAD]:
        return -1
    return good


@micropython.viper
def fields(line: ptr8, ends: ptr8, count: int, spec: ptr8, n: int, out: ptr32) -> int:
    """Convert fields 1 to n - 1 of a sentence.

    Args:
        line: The sentence, from `frame`.
        ends: Offset after each field, from `frame`.
        count: Number of fields in the sentence.
        spec: Conversion of each field, see the module's docstring.
        n: Length of `spec`.
        out: Receives the values, indexed by field; EMPTY for an empty or missing field.

    Returns:
        The number of coordinates, plus 16 for each coordinate out of range.
    """
    coordinates = 0
    f = 1
    while f < n:
        kind = spec[f]
        if kind == 46:
            f += 1
            continue
        value = EMPTY
        i = end = 0
        if f < count:
            i = ends[f - 1] + 1
            end = ends[f]
        if i < end:
            value = 0
            if kind < 58:  # 0 to 3
                kind -= 48
                negative = line[i] == 45
                if negative or line[i] == 43:
                    i += 1
                digits = 0  # 1 after the first digit, -1 if the number is too long
                left = -1  # decimals still to read; negative before the decimal point
                while i < end and left:
                    c = line[i] - 48
                    i += 1
                    if c >= 0 and c <= 9:
                        if value > 99999999:
                            digits = -1
                            break
                        value = value * 10 + c
                        digits = 1
                        left -= 1
                    elif c == -2 and left < 0:
                        left = kind
                    else:
                        break
                if left == 0 and i < end:
                    c = line[i] - 48
                    if c >= 0 and c <= 9:
                        digits |= 1
                        if c >= 5:
                            value += 1
                elif left < 0:
                    left = kind
                while left > 0 and digits > 0:
                    if value > 99999999:
                        digits = -1
                    else:
                        value *= 10
                        left -= 1
                if digits <= 0:
                    value = int(enums.UNKNOWN)
                elif negative:
                    value = 0 - value
            elif kind == 99:  # c
                value = line[i]
            elif kind == 109:  # m
                while i < end:
                    c = line[i] - 65
                    i += 1
                    if c >= 0 and c < 26:
                        value |= 1 << c
            elif kind == 110 or kind == 101:  # n, e
                digits = 0
                while i < end:
                    c = line[i] - 48
                    if c < 0 or c > 9 or value > 20000:
                        break
                    value = value * 10 + c
                    digits += 1
                    i += 1
                degree = value // 100
                value -= degree * 100
                left = 7
                if digits < 3 or digits > 5 or value > 60 or degree > 200 or kind == 110 and digits > 4:
                    left = -1
                if i < end and line[i] != 46:
                    left = -1
                i += 1
                while left > 0:
                    c = 0
                    if i < end:
                        c = line[i] - 48
                        i += 1
                        if c < 0 or c > 9:
                            left = 0  # malformed
                    value = value * 10 + c
                    left -= 1
                while left == 0 and i < end:  # decimals without effect
                    c = line[i] - 48
                    if c < 0 or c > 9:
                        left = -1
                    i += 1
                side = 0
                if f + 1 < count and ends[f] + 2 == ends[f + 1]:
                    side = line[ends[f] + 1]
                if left < 0 or value > 600000000:
                    value = 0
                elif kind == 110 and (side == 78 or side == 83):
                    value = degree * 10000000 + (value + 30) // 60
                    coordinates += 1
                    if value > _QUARTER:
                        coordinates += 16
                    if side == 83:
                        value = -value
                elif kind == 101 and (side == 69 or side == 87):
                    value = degree * 10000000 + (value + 30) // 60
                    coordinates += 1
                    if value - _QUARTER > _QUARTER:
                        coordinates += 16
                    if side == 87:
                        value = -value
                else:
                    value = 0
            else:  # t, d
                left = 6
                while left and i < end:
                    c = line[i] - 48
                    if c < 0 or c > 9:
                        break
                    value = value * 10 + c
                    i += 1
                    left -= 1
                if left or kind == 100 and i < end:
                    value = int(enums.UNKNOWN)
                elif kind == 116:
                    hour = value // 10000
                    minute = value // 100 - hour * 100
                    value -= hour * 10000 + minute * 100
                    if hour > 23 or minute > 59 or value > 60 or i < end and line[i] != 46:
                        value = int(enums.UNKNOWN)
                    else:
                        value = ((hour * 60 + minute) * 60 + value) * 1000
                        left = 100
                        i += 1
                        while i < end:
                            c = line[i] - 48
                            if c < 0 or c > 9:
                                value = int(enums.UNKNOWN)
                                break
                            value += c * left
                            left //= 10
                            i += 1
        out[f] = value
        f += 1
    return coordinates


@micropython.viper
def systems(values: ptr32, system: int) -> int:
    """Return the mask of the constellations (fix.GPS ... NAVIC) of the satellites in fields 3 to 14.

    Args:
        values: Fields of a GSA sentence.
        system: NMEA system id of the constellation; 0 to tell GPS from GLONASS by satellite number.
    """
    mask = 0
    f = 3
    while f < 15:
        number = values[f]
        f += 1
        if number < 1 or number > 600:
            continue
        kind = system
        if kind == 0:
            kind = 2 if number >= 65 and number <= 99 else 1
        mask |= 1 << kind
    return mask >> 1
