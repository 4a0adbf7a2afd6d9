"""Decorators and pointers that make a byte loop machine code on MicroPython and plain Python elsewhere.

On CPython a loop is replaced by an equal function of the module `<module>_cpython`, where there is one. Each function
there is a decorator of that loop, to which it leaves unusual input.

A loop decorated with `micropython.viper` keeps its numbers within 31 bits and reads nothing negative through a ptr32
(a 64-bit machine would read 2**32 more). Then machine code and plain Python give the same results. MicroPython subset.
"""

try:
    import micropython
    from micropython import const
except ImportError:
    import importlib

    class micropython:  # noqa: N801 - named like MicroPython's module
        """Replacement on CPython."""

        @staticmethod
        def viper(loop):
            """Return the replacement of a loop for CPython, or the loop."""
            name = loop.__module__ + "_cpython"
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as e:
                if e.name != name:
                    raise
                return loop
            replace = getattr(module, loop.__name__, None)
            return loop if replace is None else replace(loop)

    def const(value):
        """Return the value; a compile-time constant on MicroPython."""
        return value


def ptr8(buf):
    """Return the buffer; a pointer to bytes in machine code."""
    return buf


ptr32 = ptr8
