"""Bodies of scalar messages, by the generated field tables: dictionaries in, bytes out. MicroPython subset.

The way back is `decode`; position batches are `track`'s.
"""

import struct

import patrolink_messages as m


class FieldError(ValueError):
    """A value does not fit its field."""


def message_spec(kind):
    """Return the message's name and its fields' specifications as words; KeyError for an unknown type."""
    at = m.MESSAGES.find("\n%d " % kind)
    if at < 0:
        raise KeyError(kind)
    return m.MESSAGES[at + 1 : m.MESSAGES.find("\n", at + 1)].split()[1:]


def parse_field(word):
    """Return (name, struct letter, or s or x for text and bytes, size, min, max, unknown) of one specification."""
    part = word.split(":")
    letter = part[1]
    if letter in "sx":
        return part[0], letter, 1, int(part[3]) if len(part) > 3 else 0, int(part[2]), None
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
    """Write the body of a scalar message at buf[start:] and return the offset after it.

    `values` maps field names to integers or UTF-8 bytes; None (or a missing name) where the schema has an
    unknown code. FieldError names the field that is missing or out of range: MicroPython's struct would wrap it.
    """
    for word in message_spec(kind)[1:]:
        name, letter, size, low, high, unknown = parse_field(word)
        value = values.get(name)
        if value is None:
            if unknown is None:
                raise FieldError("%s is missing" % name)
            value = unknown
        elif letter in "sx":
            n = len(value)
            if not low <= n <= high:
                raise FieldError("%s has %d bytes; %d to %d fit" % (name, n, low, high))
            buf[start] = n
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
