"""Decoder of all message bodies. MicroPython subset."""

import struct

import patrolink_messages as m

from .codec import check_pair, is_utf8, message_words, parse_field
from .errors import RejectError


def decode(kind, body):
    """Return a message as a dictionary of "message" (its name) and its fields; None for unknown values.

    Fields of type str are str, fields of type bytes are bytes. Bytes after the known fields belong to a later minor
    version and are ignored.

    Raises:
        RejectError: the type is unknown, the body ends early, a value is out of range, or a pair of fields is
            contradictory.
    """
    try:
        specs = message_words(kind)
    except KeyError:
        raise RejectError("type", str(kind))
    message = {"message": specs[0]}
    if kind == m.POSITION_BATCH:
        from . import track_decoder  # saves heap: devices encode batches but decode none

        message["resolution_e"], message["fixes"] = track_decoder.decode_rows(body)
        return message
    start = 0
    missing = []  # names of fields that are not known
    for spec in specs[1:]:
        if ":" not in spec:
            check_pair(spec, message, missing, _out_of_range)
            continue
        name, letter, size, low, high, unknown = parse_field(spec)
        end = start + size
        if end > len(body):
            raise RejectError("length", "the body ends before " + name)
        if letter in "sx":
            n = body[start]
            if size == 2:
                n = n << 8 | body[start + 1]
            if end + n > len(body):
                raise RejectError("length", name)
            if n == unknown:
                missing.append(name)
            elif not low <= n <= high:
                raise RejectError("range", name)
            value = bytes(body[end : end + n])
            end += n
            if letter == "s":
                if not is_utf8(value):
                    raise RejectError("range", name + " is not UTF-8")
                value = value.decode("utf-8")
        else:
            value = struct.unpack_from(">" + letter, body, start)[0]
            if value == unknown:
                missing.append(name)
                value = None
            elif not low <= value <= high:
                raise RejectError("range", "%s %d" % (name, value))
        message[name] = value
        start = end
    return message


def _out_of_range(detail):
    return RejectError("range", detail)
