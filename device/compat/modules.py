"""Unloading of modules that are not needed again."""

import gc
import sys


def unload(name):
    """Unload a module if it is loaded and the heap has a fixed size.

    Args:
        name: Name of the module, which is part of a package.
    """
    if hasattr(gc, "mem_free") and sys.modules.pop(name, None) is not None:
        package, _, own = name.rpartition(".")
        delattr(sys.modules[package], own)
