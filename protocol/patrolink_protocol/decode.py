"""Bodies of all messages: bytes in, dictionaries out. MicroPython subset."""

import struct

import patrolink_messages as m

from .codec import message_spec, parse_field
from .errors import RejectError


def decode(kind, body):
    """Return the message as a dictionary with "message" and its fields; None for unknown. Raises RejectError.

    Text is str, bytes are bytes. Bytes after the known fields are a later minor version's: they are passed over.
    """
    try:
        words = message_spec(kind)
    except KeyError:
        raise RejectError("type", str(kind))
    out = {"message": words[0]}
    if kind == m.POSITION_BATCH:
        from . import track_decoder  # a device, which decodes none, need not carry it

        out["resolution_e"], out["fixes"] = track_decoder.decode_rows(body)
        return out
    at = 0
    for word in words[1:]:
        name, letter, size, low, high, unknown = parse_field(word)
        end = at + size
        if end > len(body):
            raise RejectError("length", "the body ends before " + name)
        if letter in "sx":
            n = body[at]
            if end + n > len(body):
                raise RejectError("length", name)
            if not low <= n <= high:
                raise RejectError("range", name)
            value = bytes(body[end : end + n])
            end += n
            if letter == "s":
                try:
                    value = value.decode("utf-8")
                except UnicodeError:
                    raise RejectError("range", name + " is not UTF-8")
        else:
            value = struct.unpack_from(">" + letter, body, at)[0]
            if value == unknown:
                value = None
            elif not low <= value <= high:
                raise RejectError("range", "%s %d" % (name, value))
        out[name] = value
        at = end
    return out
