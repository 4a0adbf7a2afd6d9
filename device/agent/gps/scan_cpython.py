"""The loops of `scan` for CPython: see patrolink_protocol.native. Boards do not have this module."""

import functools
import itertools
import operator
import re
from array import array

_PLAIN = rb"[ -#%-)+-~]"  # characters of a sentence before its checksum
_SENTENCE = re.compile(rb"[\r\n]*\$(" + _PLAIN + rb"{1,120})\*([0-9A-Fa-f]{2})[\r\n]")
_END = re.compile(_PLAIN + rb"{0,120}\*([0-9A-Fa-f]{2})[\r\n]")  # of a sentence whose start came before
_START = re.compile(rb"[\r\n]*\$(" + _PLAIN + rb"{0,120})\Z")  # of a sentence whose end is still to come
_LONGEST = 120
_AT, _COMMAS, _SUM, _STAR, _WANT, _COUNT, _KIND = range(7)
_EMPTY = 1 - (1 << 30)
_QUARTER = 900000000
_CACHED = 1024
_NUMBERS_BEFORE = bytes(3 * array("i").itemsize)  # the fields before the satellites


def _xor(text):
    """Return the exclusive OR of up to 128 bytes."""
    value = int.from_bytes(text, "big")
    value ^= value >> 512
    value ^= value >> 256
    value ^= value >> 128
    value ^= value >> 64
    value ^= value >> 32
    value ^= value >> 16
    return (value ^ value >> 8) & 255


def _write_ends(body, ends):
    """Write the offset after each field."""
    lengths = map(len, body.split(b","))
    offsets = bytes(map(operator.add, itertools.accumulate(lengths), itertools.count()))
    ends[: len(offsets)] = offsets


def _counted(state):
    """Return the result of `frame` without a sentence."""
    return -1 if any(state[_KIND + 1 :]) else 0


def frame(loop):
    """Return `scan.frame` for CPython: sentences without a fault by regular expressions, the rest by the loop.

    Of a sentence found by regular expressions `ends` gets the last entry only; `fields` needs no other.
    """

    @functools.wraps(loop)
    def replacement(buf, i, n, state, line, ends, special):
        at = state[_AT] - 1
        if at < 0:
            if i == n:
                return _counted(state)
            match = _SENTENCE.match(buf, i, n)
            if match is None:
                match = _START.match(buf, i, n)
                if match is None:
                    return loop(buf, i, n, state, line, ends, special)
                body = match[1]
                line[: len(body)] = body
                state[_AT] = len(body) + 1
                state[_COMMAS] = body.count(b",")
                _write_ends(body, ends)
                state[_SUM] = _xor(body)
                state[_STAR] = 0
                return _counted(state)
            body, digits = match.groups()
        else:
            match = _END.match(buf, i, n) if not state[_STAR] else None
            if match is None or at + match.end() - i > _LONGEST:
                return loop(buf, i, n, state, line, ends, special)
            digits = match[1]
            body = bytes(line[:at]) + buf[i : match.start(1) - 1]
            if not body:
                return loop(buf, i, n, state, line, ends, special)
        check = _xor(body)
        if int(digits, 16) != check:
            return loop(buf, i, n, state, line, ends, special)
        end = len(body)
        line[: end + 3] = b"%b*%b" % (body, digits)
        count = body.count(b",") + 1
        ends[count - 1] = end
        state[_AT] = 0
        state[_COMMAS] = state[_COUNT] = count
        state[_SUM] = check ^ 42 ^ digits[0] ^ digits[1]
        state[_STAR] = end
        state[_WANT] = check
        state[_KIND] = line[2] << 16 | line[3] << 8 | line[4] if (body + b",").find(b",") == 5 else 0
        return match.end()

    return replacement


class _UnusualError(Exception):
    """A field is left to the loop."""


def _number(places):
    """Return a function that converts a decimal number to an integer of 10^-places."""
    unit = 10**places
    longest = 9 - places

    @functools.lru_cache(maxsize=_CACHED)  # most numbers of a receiver stay the same
    def convert(text):
        whole, point, decimals = text.partition(b".")
        if not whole.isdigit() or len(whole) > longest:
            raise _UnusualError
        value = int(whole) * unit
        if decimals:
            if not decimals.isdigit():
                raise _UnusualError
            if places:
                value += int(decimals[:places].ljust(places, b"0"))
            if decimals[places : places + 1] >= b"5":
                value += 1
        return value

    return convert


@functools.lru_cache(maxsize=4)  # the sentences of an epoch have the same time
def _time(text):
    if not text[:6].isdigit() or len(text) < 6:
        raise _UnusualError
    value = (int(text[:2]) * 3600 + int(text[2:4]) * 60 + int(text[4:6])) * 1000
    if len(text) > 6:
        decimals = text[7:10]
        if text[6] != 46 or not decimals.isdigit():
            raise _UnusualError
        value += int(decimals.ljust(3, b"0"))
    return value


def _date(text):
    if len(text) != 6 or not text.isdigit():
        raise _UnusualError
    return int(text)


def _code(text):
    return text[0]


@functools.lru_cache(maxsize=8)  # most receivers repeat the position in each epoch
def _angle(text):
    whole, point, decimals = text.partition(b".")
    if not point or not whole.isdigit() or len(whole) > 5 or not decimals.isdigit():
        raise _UnusualError
    degrees, minutes = divmod(int(whole), 100)
    return degrees * 10000000 + (minutes * 10000000 + int(decimals[:7].ljust(7, b"0")) + 30) // 60


_CONVERTERS = {ord(str(places)): _number(places) for places in range(4)} | {
    ord("t"): _time,
    ord("d"): _date,
    ord("c"): _code,
}
_LIMITS = {ord("n"): (_QUARTER, b"S"), ord("e"): (2 * _QUARTER, b"W")}


@functools.lru_cache(maxsize=16)
def _plan(spec):
    """Return index and converter of the numbers of a sentence, and index, limit and negative side of its angles."""
    used = [(f, kind) for f, kind in enumerate(spec) if f and kind != 46]
    numbers = [(f, _CONVERTERS[kind]) for f, kind in used if kind in _CONVERTERS]
    return numbers, [(f, *_LIMITS[kind]) for f, kind in used if kind in _LIMITS]


def _convert(body, spec):
    """Return pairs of index and value, and the result of `fields`."""
    texts = body.split(b",")
    count = len(texts)
    values = []
    coordinates = 0
    numbers, angles = _plan(spec)
    for f, convert in numbers:
        values.append((f, convert(texts[f]) if f < count and texts[f] else _EMPTY))
    for f, limit, negative in angles:
        if f >= count or not texts[f]:
            values.append((f, _EMPTY))
            continue
        value = _angle(texts[f])
        if f + 1 >= count or not texts[f + 1] or value > 2 * _QUARTER:
            raise _UnusualError
        coordinates += 1 if value <= limit else 17
        values.append((f, -value if texts[f + 1][:1] == negative else value))
    return values, coordinates


_convert_again = functools.lru_cache(maxsize=64)(_convert)  # sentences without a time often repeat


def fields(loop):
    """Return `scan.fields` for CPython. The loop converts a sentence with an unusual field."""

    @functools.wraps(loop)
    def replacement(line, ends, count, spec, n, out):
        convert = _convert if b"t" in spec else _convert_again
        body = bytes(line[: ends[count - 1]])
        try:
            values, coordinates = convert(body, spec)
        except _UnusualError:
            _write_ends(body, ends)
            return loop(line, ends, count, spec, n, out)
        for f, value in values:
            out[f] = value
        return coordinates

    return replacement


def satellites(loop):
    """Return `scan.satellites` for CPython, which remembers results: the satellites in use change rarely."""

    @functools.lru_cache(maxsize=64)
    def add(numbers, system, used, n):
        values = array("i", _NUMBERS_BEFORE + numbers)
        changed = bytearray(used)
        return loop(values, system, changed, n), changed

    @functools.wraps(loop)
    def replacement(values, system, used, n):
        result, used[:] = add(values[3:15].tobytes(), system, bytes(used), n)
        return result

    return replacement
