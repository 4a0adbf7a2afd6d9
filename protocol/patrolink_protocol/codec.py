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
    start = m.MESSAGES.find("\n%d " % kind)
    if start < 0:
        raise KeyError(kind)
    return m.MESSAGES[start + 1 : m.MESSAGES.find("\n", start + 1)].split()[1:]


def parse_field(spec):
    """Return (name, letter, size, min, max, unknown) of a field specification.

    `letter` is the struct format of an integer, or "s" for str and "x" for bytes; then size is that of the length
    on the wire, and min and max are lengths.
    """
    part = spec.split(":")
    letter = part[1]
    if letter in "sx":
        high = int(part[2])
        return part[0], letter, 1 if high < 256 else 2, int(part[3]) if len(part) > 3 else 0, high, None
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
        FieldError: a field is missing or out of range. MicroPython's struct would wrap the value.
    """
    for spec in message_spec(kind)[1:]:
        name, letter, size, low, high, unknown = parse_field(spec)
        value = values.get(name)
        if value is None:
            if unknown is None:
                raise FieldError("%s is missing" % name)
            value = unknown
        elif letter in "sx":
            n = len(value)
            if not low <= n <= high:
                raise FieldError("%s has %d bytes; %d to %d are allowed" % (name, n, low, high))
            if size == 2:
                buf[start] = n >> 8
                start += 1
            buf[start] = n & 255
            for byte in value:
                start += 1
                buf[start] = byte
            start += 1
            continue
        elif not low <= value <= high:
            raise FieldError("%s %d is outside %d..%d" % (name, value, low, high))
        struct.pack_into(">" + letter, buf, start, value)
        start += size
    return start
