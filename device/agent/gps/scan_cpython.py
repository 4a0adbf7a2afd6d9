"""The loops of `scan` for CPython: see patrolink_protocol.native. Boards do not have this module."""

import functools
import re
from itertools import accumulate

import patrolink_enums as enums

# As in scan: the characters of a sentence, the last "*" before its checksum, and a line end.
_SENTENCE = re.compile(rb"[\r\n]*\$((?:[ !\"#%-)+-~])+)\*([0-9A-Fa-f]{2})[\r\n]")
_LONGEST = 128
_EMPTY = 1 - (1 << 30)
_AT, _COMMAS, _SUM, _STAR, _WANT, _COUNT, _KIND = range(7)
_LATITUDE = re.compile(rb"(\d{1,2})(\d\d)(?:\.(\d*))?")
_LONGITUDE = re.compile(rb"(\d{1,3})(\d\d)(?:\.(\d*))?")
_CLOCK = re.compile(rb"([01]\d|2[0-3])([0-5]\d)([0-5]\d|60)(?:\.(\d*))?")
_NUMBER = re.compile(rb"([+-]?)(\d{1,7})(?:\.(\d*))?")
_UNKNOWN = enums.UNKNOWN


def frame(loop):
    """Return `scan.frame` for CPython: whole sentences at once, and all else with the loop."""

    @functools.wraps(loop)
    def replacement(buf, i, n, state, line, ends, special):
        if state[_AT]:
            return loop(buf, i, n, state, line, ends, special)
        match = _SENTENCE.match(buf, i, n)
        if match is None:
            return loop(buf, i, n, state, line, ends, special)
        body, digits = match.groups()
        size = len(body)
        total = int.from_bytes(body, "little")
        total ^= total >> 512
        total ^= total >> 256
        total ^= total >> 128
        total ^= total >> 64
        total ^= total >> 32
        total ^= total >> 16
        total = (total ^ total >> 8) & 255
        if size + 3 > _LONGEST or total != int(digits, 16):
            return loop(buf, i, n, state, line, ends, special)
        line[: size + 3] = b"%b*%b" % (body, digits)
        offsets = [f + at for f, at in enumerate(accumulate(map(len, body.split(b","))))]
        count = len(offsets)
        ends[:count] = bytes(offsets)
        check = total ^ 42 ^ digits[0] ^ digits[1]  # the loop sums the checksum's characters, too
        state[_COMMAS], state[_SUM], state[_STAR], state[_WANT], state[_COUNT] = count, check, size, total, count
        state[_KIND] = body[2] << 16 | body[3] << 8 | body[4] if offsets[0] == 5 else 0
        return match.end()

    return replacement


def _number(text, places):
    match = _NUMBER.fullmatch(text)
    if match is None or len(match[2]) + places > 9:
        return None
    fraction = match[3] or b""
    value = int(match[2] + fraction[:places].ljust(places, b"0"))
    if fraction[places : places + 1] >= b"5":
        value += 1
    return -value if match[1] == b"-" else value


def _clock(text):
    match = _CLOCK.fullmatch(text)
    if match is None:
        return _UNKNOWN
    hour, minute, second, fraction = match.groups()
    ms = int(fraction[:3].ljust(3, b"0")) if fraction else 0
    return ((int(hour) * 60 + int(minute)) * 60 + int(second)) * 1000 + ms


def _coordinate(pattern, limit, letters, text, side):
    """Return (value, addition to the number of coordinates)."""
    match = pattern.fullmatch(text)
    if match is None:
        return 0, 0
    degree, minute, fraction = match.groups()
    minutes_e7 = int(minute + (fraction or b"")[:7].ljust(7, b"0"))
    if minutes_e7 > 600000000 or int(degree) > 200 or len(side) != 1 or side not in letters:
        return 0, 0
    value = int(degree) * 10000000 + (minutes_e7 + 30) // 60
    return -value if side == letters[1:] else value, 17 if value > limit else 1


@functools.lru_cache(maxsize=512)
def _convert(kind, text, side):
    """Return (value, addition to the number of coordinates) of a field that is not empty, or None for the loop."""
    if kind < 58:
        value = _number(text, kind - 48)
        return None if value is None else (value, 0)
    if kind == 99:
        return text[0], 0
    if kind == 109:
        value = 0
        for letter in text:
            if 65 <= letter < 91:
                value |= 1 << letter - 65
        return value, 0
    if kind == 116:
        return _clock(text), 0
    if kind == 100:
        return (int(text) if len(text) == 6 and text.isdigit() else _UNKNOWN), 0
    if kind == 110:
        return _coordinate(_LATITUDE, 900000000, b"NS", text, side)
    return _coordinate(_LONGITUDE, 1800000000, b"EW", text, side)


def fields(loop):
    """Return `scan.fields` for CPython. Receivers repeat fields in several sentences: conversions are cached."""
    layouts = {}

    @functools.wraps(loop)
    def replacement(line, ends, count, spec, n, out):
        layout = layouts.get(spec)
        if layout is None:
            layout = layouts[spec] = [(f, spec[f]) for f in range(1, n) if spec[f] != 46]
        parts = bytes(line[: ends[count - 1]]).split(b",")
        coordinates = 0
        for f, kind in layout:
            text = parts[f] if f < count else b""
            if not text:
                out[f] = _EMPTY
                continue
            side = b""
            if kind == 110 or kind == 101:
                side = parts[f + 1] if f + 1 < count else b""
            done = _convert(kind, text, side)
            if done is None:
                return loop(line, ends, count, spec, n, out)
            out[f], more = done
            coordinates += more
        return coordinates

    return replacement


def systems(loop):
    """Return `scan.systems` for CPython."""

    @functools.wraps(loop)
    def replacement(values, system):
        mask = 0
        for number in values[3:15]:
            if 1 <= number <= 600:
                mask |= 1 << (system or (2 if 65 <= number <= 99 else 1))
        return mask >> 1

    return replacement
