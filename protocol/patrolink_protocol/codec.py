"""Encoder of scalar message bodies, driven by the generated field tables. MicroPython subset.

`decode` is the reverse; position batches are encoded by `track_encoder`.
"""

import struct

import patrolink_messages as m


class FieldError(ValueError):
    """A value is missing or does not fit its field."""


def message_spec(kind):
    """Return the name of a message type, followed by the specifications of its fields.

    Raises:
        KeyError: the type is unknown.
    """
    words = message_words(kind)
    return words[:1] + [word for word in words if ":" in word]


def message_words(kind):
    """Return the name of a message type, the specifications of its fields, and its pairs of fields (see `check_pair`).

    Raises:
        KeyError: the type is unknown.
    """
    start = m.MESSAGES.find("\n%d " % kind)
    if start < 0:
        raise KeyError(kind)
    return m.MESSAGES[start + 1 : m.MESSAGES.find("\n", start + 1)].split()[1:]


def parse_field(spec):
    """Return (name, letter, size, min, max, unknown) of a field specification.

    `letter` is the struct format of an integer, or "s" for str and "x" for bytes; then size is that of the length
    on the wire, min and max are lengths, and unknown is 0 if the field may also be empty.
    """
    part = spec.split(":")
    letter = part[1]
    if letter in "sx":
        high = int(part[2])
        low = int(part[3]) if len(part) > 3 else 0
        return part[0], letter, 1 if high < 256 else 2, low, high, 0 if len(part) > 4 else None
    size = struct.calcsize(">" + letter)
    high = (1 << 8 * size) - 1
    low = 0
    if letter in "bhi":
        low = -(high >> 1) - 1
        high >>= 1
    unknown = None
    if len(part) > 2 and part[2]:
        low = int(part[2])
    if len(part) > 3 and part[3]:
        high = int(part[3])
    if len(part) > 4:
        unknown = int(part[4])
    return part[0], letter, size, low, high, unknown


def encode_into(kind, values, buf, start):
    """Write the body of a scalar message at buf[start:].

    Args:
        kind: Message type.
        values: Field name to integer or UTF-8 bytes; None or a missing name where the schema has an unknown code.
        buf: Writable buffer.
        start: Offset of the body.

    Returns:
        The offset after the body.

    Raises:
        FieldError: a field is missing, of the wrong type or out of range, or a pair of fields is contradictory.
            MicroPython's struct would wrap the value.
    """
    missing = []  # names of fields that are not known
    for spec in message_words(kind)[1:]:
        if ":" not in spec:
            check_pair(spec, values, missing, FieldError)
            continue
        name, letter, size, low, high, unknown = parse_field(spec)
        value = values.get(name)
        if value is None:
            if unknown is None:
                raise FieldError("%s is missing" % name)
            value = b"" if letter in "sx" else unknown
        if letter in "sx":
            _check_bytes(name, value, letter, low, high, unknown)
            n = len(value)
            if n == unknown:
                missing.append(name)
            if size == 2:
                buf[start] = n >> 8
                start += 1
            buf[start] = n & 255
            for byte in value:
                start += 1
                buf[start] = byte
            start += 1
            continue
        if not isinstance(value, int):
            raise FieldError("%s %r is not an integer" % (name, value))
        if value == unknown:
            missing.append(name)
        elif not low <= value <= high:
            raise FieldError("%s %d is outside %d..%d" % (name, value, low, high))
        struct.pack_into(">" + letter, buf, start, value)
        start += size
    return start


def _check_bytes(name, value, letter, low, high, unknown):
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise FieldError("%s must be bytes, UTF-8 for text" % name)
    n = len(value)
    if n != unknown and not low <= n <= high:
        raise FieldError("%s has %d bytes; %d to %d are allowed" % (name, n, low, high))
    if letter == "s" and not is_utf8(value):
        raise FieldError("%s is not UTF-8" % name)


def check_pair(spec, values, missing, error):
    """Check the rule of two fields.

    Args:
        spec: "first=second": both are known, or both are not. "first<second": the first is at most the second, if both
            are known.
        values: Field name to value.
        missing: Names of the fields that are not known.
        error: Exception to raise with a text if the rule does not hold.
    """
    if "=" in spec:
        first, second = spec.split("=")
        if (first in missing) != (second in missing):
            raise error("%s and %s must both be known, or both not" % (first, second))
        return
    first, second = spec.split("<")
    if first not in missing and second not in missing and values[first] > values[second]:
        raise error("%s is greater than %s" % (first, second))


def is_utf8(data):
    """Return True for UTF-8 as in RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF."""
    n = len(data)
    i = 0
    while i < n:
        lead = data[i]
        i += 1
        if lead < 0x80:
            continue
        if not 0xC2 <= lead <= 0xF4:
            return False
        more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if i + more > n:
            return False
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        for _ in range(more):
            if not low <= data[i] <= high:
                return False
            low, high = 0x80, 0xBF
            i += 1
    return True
