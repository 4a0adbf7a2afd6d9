"""The loops of `samples` for CPython: see patrolink_protocol.native. Boards do not have this module."""

import functools
import struct

_UNCHANGED = 256


def fade(loop):
    """Return `samples.fade` for CPython."""

    @functools.wraps(loop)
    def replacement(pcm, n, gain):
        layout = "<%dh" % n
        values = struct.unpack_from(layout, pcm)
        total = sum(map(abs, values))
        if gain != _UNCHANGED:
            if gain > _UNCHANGED:
                return loop(pcm, n, gain)
            struct.pack_into(layout, pcm, 0, *[v * gain >> 8 if v >= 0 else -(-v * gain >> 8) for v in values])
        return total // n

    return replacement


def copy(loop):
    """Return `samples.copy` for CPython. The loop copies within a buffer, where the order matters."""

    @functools.wraps(loop)
    def replacement(source, at, out, to, n):
        if source is out:
            loop(source, at, out, to, n)
        else:
            out[to : to + n] = source[at : at + n]

    return replacement
