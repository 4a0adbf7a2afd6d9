"""The TLV tail of a body: extensions of later versions and of vendors. MicroPython subset. SPEC.md, "Tail".

type (1 byte, highest bit: critical) | length (1 byte) | value, repeated; then one byte: their length together
"""

from .errors import RejectError


def read(view, start, end, extensions):
    """Append (type, critical, value) of view[start:end]'s tail to `extensions` and return where the body ends.

    RejectError: lengths that do not add up; any critical extension, since this version knows none.
    """
    tail = end - 1 - view[end - 1] if end > start else -1
    if tail < start:
        raise RejectError("length", "tail")
    at = tail
    while at < end - 1:
        after = at + 2 + view[at + 1]  # view[at + 1] is at most the tail's own length byte
        if after > end - 1:
            raise RejectError("length", "extension")
        extensions.append((view[at] & 127, view[at] >> 7, bytes(view[at + 2 : after])))
        at = after
    for kind, critical, _ in extensions:
        if critical:
            raise RejectError("critical", "extension %d" % kind)
    return tail


def write_into(buf, end, extensions):
    """Append a tail of (type, critical, value) to the body that ends at `end`; return the new end.

    ValueError for more than 255 bytes, or a type outside 1..127. Seal the frame with tail=True.
    """
    start = end
    for kind, critical, value in extensions:
        if not 1 <= kind <= 127 or end - start + 2 + len(value) > 255:
            raise ValueError("an extension has a type 1..127, and all of them at most 255 bytes")
        buf[end] = kind | (128 if critical else 0)
        buf[end + 1] = len(value)
        buf[end + 2 : end + 2 + len(value)] = value
        end += 2 + len(value)
    buf[end] = end - start
    return end + 1
