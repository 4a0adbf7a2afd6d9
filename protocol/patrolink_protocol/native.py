"""What lets a byte loop be machine code on MicroPython and plain Python elsewhere, from one text. MicroPython subset.

A loop decorated with micropython.viper keeps its numbers within 31 bits and reads nothing negative through a ptr32 (a
64-bit machine would read 2^32 more): then both say the same.
"""

try:
    import micropython
    from micropython import const
except ImportError:

    class micropython:
        """On CPython the decorators change nothing."""

        @staticmethod
        def viper(function):
            return function

    def const(value):
        return value


def ptr8(buf):
    """In machine code a pointer to bytes; here the buffer itself."""
    return buf


ptr32 = ptr8
