"""The TLV tail of a body: extensions of later versions and of vendors (SPEC.md, "Tail"). MicroPython subset.

type (1 byte, highest bit: critical) | length (1 byte) | value, repeated; then one byte: their total length
"""

import patrolink_messages as m

from .errors import RejectError


def read(view, start, end, extensions):
    """Parse the tail of view[start:end].

    Args:
        view: Verified frame.
        start: Offset of the body.
        end: Offset after the tail.
        extensions: List to which (type, critical, value) of each extension is appended.

    Returns:
        The offset after the body.

    Raises:
        RejectError: the lengths are inconsistent; a type is 0, occurs twice, or has a value of an illegal length; or an
            extension is critical: this version acts on none.
    """
    tail = end - 1 - view[end - 1] if end > start else -1
    if tail < start:
        raise RejectError("length", "tail")
    offset = tail
    while offset < end - 1:
        following = offset + 2 + view[offset + 1]  # view[offset + 1] is at most the tail's own length byte
        if following > end - 1:
            raise RejectError("length", "extension")
        extensions.append((view[offset] & 127, view[offset] >> 7, bytes(view[offset + 2 : following])))
        offset = following
    if not _are_legal(extensions):
        raise RejectError("range", "extension")
    for kind, critical, _ in extensions:
        if critical:
            raise RejectError("critical", "extension %d" % kind)
    return tail


def _are_legal(extensions):
    present = []
    for kind, _, value in extensions:
        if not 1 <= kind <= 127 or kind in present:
            return False
        present.append(kind)
        for known, low, high in m.EXTENSIONS:
            if kind == known and not low <= len(value) <= high:
                return False
    return True


def write_into(buf, end, extensions):
    """Append a tail to the body that ends at `end`; seal the frame with tail=True.

    Args:
        buf: Buffer with the body.
        end: Offset after the body.
        extensions: (type, critical, value) of each extension.

    Returns:
        The offset after the tail.

    Raises:
        ValueError: a type is outside 1..127 or occurs twice, a value has an illegal length, or the extensions have more
            than 255 bytes.
    """
    start = end
    if not _are_legal(extensions):
        raise ValueError("the extensions of a frame have different types 1..127 and values of their legal lengths")
    for kind, critical, value in extensions:
        if end - start + 2 + len(value) > 255:
            raise ValueError("all extensions have at most 255 bytes")
        buf[end] = kind | (128 if critical else 0)
        buf[end + 1] = len(value)
        buf[end + 2 : end + 2 + len(value)] = value
        end += 2 + len(value)
    buf[end] = end - start
    return end + 1
