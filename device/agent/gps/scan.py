"""The loops over each byte that a receiver says: machine code where MicroPython can, see patrolink_protocol.native.

Field specifications of `fields`, one character a field, the tag's first:

    .     not wanted
    c     first character
    0-3   decimal number times 10^0 ... 10^3, rounded half away from zero. Like C's atof it stops at the first character
          that cannot belong to one; UNKNOWN when it does not start like one, or has more than nine digits then
    n, e  (d)ddmm.mmmm and the hemisphere in the field after it, in 1e-7 degrees, rounded half away from zero, north and
          east positive; decimals of a minute beyond the seventh (0.2 mm) are not looked at, and what is more than 200
          degrees is 200. When it is not of that form, or either field is empty, it is not counted
    t     hhmmss(.sss), in ms of the day (86400000 and more in a leap second); UNKNOWN when malformed
    d     six digits; UNKNOWN when it is anything else
"""

import patrolink_enums as enums
from patrolink_protocol.native import const, micropython, ptr8, ptr32  # noqa: F401

_LONGEST = const(128)  # characters between "$" and the line end that gpsd accepts; the standard says 79
_QUARTER = const(900000000)  # 90 degrees; 180 have more than 30 bits
EMPTY = const(1 - (1 << 30))

# For each byte: 0 when it is a sentence's and nothing else.
SPECIAL = b"\1" * 32 + bytes([c in b"$*," for c in range(32, 127)]) + b"\1" * 129

# Places of the framer's state.
_AT = const(0)  # 1 + next free offset in the line; 0 between sentences
_COMMAS = const(1)
_SUM = const(2)
_STAR = const(3)  # offset of the last "*": the checksum is what follows it, fields end at the first
_WANT = const(4)
COUNT = const(5)  # fields, the tag included
KIND = const(6)  # last three letters of the tag as a number; 0 when it has not five
# To be counted and set to zero by the caller, at least every 2^30 bytes.
BAD = const(7)  # sentences with a bad checksum
OVERLONG = const(8)
SKIPPED = const(9)  # bytes


@micropython.viper
def frame(buf: ptr8, i: int, n: int, state: ptr32, line: ptr8, ends: ptr8, special: ptr8) -> int:
    """Take buf[i:n] up to the end of a good sentence; return the offset after it.

    When there is none, return 0, or -1 with something to be counted.
    line     the sentence from after "$", _LONGEST + 4 bytes; ends  offset after each field, as many
    special  the table SPECIAL
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
            skipped += 1  # a "$" alone
            at = -1
        else:
            star = state[_STAR]
            said = 256
            if star and at >= star + 3:
                said = 0
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
                    said = said << 4 | c
            at = -1
            # What is no hexadecimal digit makes 0x100 or more; the sum of printable characters is below 0x80.
            if said == state[_WANT]:
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
    """Read fields 1 to n - 1 of a sentence of `count` as `spec` says into `out`; EMPTY for one that is not there.

    Return how many of them were coordinates, and 16 more for each that is not on the earth.
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
                digits = 0  # 1 when there are any, -1 when there are too many
                left = -1  # decimals still to take; below 0 before the point
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
            elif kind == 110 or kind == 101:  # n, e
                whole = 0
                point = 0
                while i < end:
                    c = line[i] - 48
                    i += 1
                    if c >= 0 and c <= 9:
                        whole = whole * 10 + c
                        if whole > 20000:
                            whole = 20000
                    else:
                        point = 1 if c == -2 else 0
                        break
                side = 0
                if f + 1 < count and ends[f] + 1 < ends[f + 1]:
                    side = line[ends[f] + 1]
                if point and side:
                    degree = whole // 100
                    value = whole - degree * 100
                    left = 7
                    while left:
                        c = -1
                        if i < end:
                            c = line[i] - 48
                        if c < 0 or c > 9:
                            end = 0
                            c = 0
                        value = value * 10 + c
                        i += 1
                        left -= 1
                    value = degree * 10000000 + (value + 30) // 60
                    coordinates += 1
                    if kind == 110:
                        if value > _QUARTER:
                            coordinates += 16
                        if side == 83:
                            value = -value
                    else:
                        if value - _QUARTER > _QUARTER:
                            coordinates += 16
                        if side == 87:
                            value = -value
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
                    value = ((hour * 60 + minute) * 60 + value % 100) * 1000
                    if i < end and line[i] == 46:
                        left = 100
                        i += 1
                        while left and i < end:
                            c = line[i] - 48
                            if c < 0 or c > 9:
                                break
                            value += c * left
                            left //= 10
                            i += 1
        out[f] = value
        f += 1
    return coordinates


@micropython.viper
def satellites(values: ptr32, system: int, used: ptr8, n: int) -> int:
    """Count the satellites of fields 3 to 14 that `used` (its first n) does not hold yet, up to four.

    system  NMEA's id of their constellation, 0 for GPS or GLONASS by their numbers
    Return the count, and from bit 8 the mask of their constellations.
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
        mask |= 128 << kind
        kind = kind << 4 | number >> 8
        number &= 255
        i = 0
        while i < n and (used[2 * i] != kind or used[2 * i + 1] != number):
            i += 1
        if i == n and n < 4:
            used[2 * n] = kind
            used[2 * n + 1] = number
            n += 1
    return n | mask
