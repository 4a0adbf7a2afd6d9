"""Bodies of all messages: dictionaries in, bytes out, and back. MicroPython subset.

Scalar messages are driven by the generated field tables; a position batch is `track`'s.
"""

import struct

import patrolink_messages as m

from .frame import Reject

_FORMAT = {"u8": ">B", "i8": ">b", "u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i"}
_SIZE = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4}


class FieldError(ValueError):
    """A value does not fit its field."""


def encode_into(kind, values, buf, start):
    """Write the body of a scalar message at buf[start:] and return the offset after it.

    `values` maps field names to integers or ASCII/UTF-8 bytes; None (or a missing name) where the schema has an
    unknown code. FieldError names the field that is missing or out of range: MicroPython's struct would wrap it.
    """
    for name, type_, low, high, unknown in m.MESSAGES[kind][1]:
        value = values.get(name)
        if value is None:
            value = unknown
        elif type_ == "str":
            if len(value) > high:
                raise FieldError("%s has %d bytes; at most %d fit" % (name, len(value), high))
            buf[start] = len(value)
            buf[start + 1 : start + 1 + len(value)] = value
            start += 1 + len(value)
            continue
        elif not low <= value <= high:
            raise FieldError("%s %d is outside %d..%d" % (name, value, low, high))
        if value is None:
            raise FieldError("%s is missing" % name)
        struct.pack_into(_FORMAT[type_], buf, start, value)
        start += _SIZE[type_]
    return start


def decode(kind, body):
    """Return the message as a dictionary with "message" and its fields; None for unknown. Raises Reject.

    Bytes after the known fields of a scalar message are a later minor version's: they are passed over.
    """
    if kind not in m.MESSAGES:
        raise Reject("type", str(kind))
    name, fields = m.MESSAGES[kind]
    out = {"message": name}
    if fields is None:
        from . import trackdecode  # a device, which decodes none, need not carry it

        out["resolution_e"], out["fixes"] = trackdecode.fixes(body)
        return out
    at = 0
    for field, type_, low, high, unknown in fields:
        size = 1 if type_ == "str" else _SIZE[type_]
        if at + size > len(body):
            raise Reject("length", "%s ends before %s" % (name, field))
        if type_ == "str":
            size += body[at]
            if body[at] > high or at + size > len(body):
                raise Reject("length", field)
            out[field] = _text(body[at + 1 : at + size], field)
        else:
            value = struct.unpack_from(_FORMAT[type_], body, at)[0]
            if value == unknown:
                value = None
            elif not low <= value <= high:
                raise Reject("range", "%s %d" % (field, value))
            out[field] = value
        at += size
    return out


def _text(raw, field):
    try:
        return bytes(raw).decode("utf-8")
    except UnicodeError:
        raise Reject("range", field + " is not UTF-8")
