"""The loops of `g711` for CPython: see `native`. Boards do not have this module."""

import functools
import struct


def encode(loop):
    """Return `g711.encode` for CPython."""
    codes = {}  # code of each sample, filled on demand
    code = bytearray(1)

    def encode_sample(value):
        loop(struct.pack("<h", value), 1, code, 0)
        codes[value] = code[0]
        return code[0]

    @functools.wraps(loop)
    def replacement(pcm, n, alaw, offset):
        values = struct.unpack_from("<%dh" % n, pcm)
        try:
            alaw[offset : offset + n] = bytes(map(codes.__getitem__, values))
        except KeyError:
            alaw[offset : offset + n] = bytes([codes[v] if v in codes else encode_sample(v) for v in values])
        return (sum(map(abs, values)) - sum([v < 0 for v in values])) // n

    return replacement


def decode(loop):
    """Return `g711.decode` for CPython."""
    pcm = bytearray(512)
    loop(bytes(range(256)), 0, 256, pcm, 0)
    low, high = bytes(pcm[::2]), bytes(pcm[1::2])

    @functools.wraps(loop)
    def replacement(alaw, offset, n, pcm, pcm_offset):
        codes = bytes(alaw[offset : offset + n])
        start, end = 2 * pcm_offset, 2 * (pcm_offset + n)
        pcm[start:end:2] = codes.translate(low)
        pcm[start + 1 : end : 2] = codes.translate(high)

    return replacement
