"""Decorators and pointers that make a byte loop machine code on MicroPython and plain Python elsewhere.

A loop decorated with `micropython.viper` keeps its numbers within 31 bits and reads nothing negative through a ptr32
(a 64-bit machine would read 2**32 more). Then machine code and plain Python give the same results. MicroPython subset.
"""

try:
    import micropython
    from micropython import const
except ImportError:

    class micropython:  # noqa: N801 - named like MicroPython's module
        """Replacement on CPython: the decorators change nothing."""

        @staticmethod
        def viper(function):
            """Return the function."""
            return function

    def const(value):
        """Return the value; a compile-time constant on MicroPython."""
        return value


def ptr8(buf):
    """Return the buffer; a pointer to bytes in machine code."""
    return buf


ptr32 = ptr8
