"""Replacements for loops of `cipher_kernels` on CPython (see `native`). Boards do not have this module."""


def xor_into(loop):
    """Return `cipher_kernels.xor_into` on integers of any length."""

    def replacement(buf, start, n, stream, used):
        mixed = int.from_bytes(buf[start : start + n], "big") ^ int.from_bytes(stream[used : used + n], "big")
        buf[start : start + n] = mixed.to_bytes(n, "big")

    return replacement
