"""Measures the heap allocation of a call, on runtimes that report it."""

import gc


def allocated(function, *args):
    """Return the bytes that function(*args) leaves on MicroPython's heap in its third call; 0 on CPython."""
    function(*args)
    function(*args)
    if not hasattr(gc, "mem_alloc"):
        return 0
    gc.collect()
    gc.disable()
    try:
        before = gc.mem_alloc()
        function(*args)
        return gc.mem_alloc() - before
    finally:
        gc.enable()
