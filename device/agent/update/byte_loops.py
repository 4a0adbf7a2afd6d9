"""Loops over bytes of updates, compiled to machine code by MicroPython (see patrolink_protocol.native)."""

from patrolink_protocol.native import micropython, ptr8


@micropython.viper
def add(out: ptr8, at: int, differences: ptr8, n: int):
    """Add n bytes to out[at:], each modulo 256."""
    i = 0
    while i < n:
        out[at + i] = out[at + i] + differences[i] & 255
        i += 1
