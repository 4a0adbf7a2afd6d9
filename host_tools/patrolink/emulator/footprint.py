"""Size of what an object holds, for rules that memory stays flat."""

import asyncio
import gc
import ssl
import sys
import types
from typing import Any

_SHARED = (type, types.ModuleType, types.FunctionType, types.CodeType, types.FrameType, ssl.SSLContext)


def footprint(root: Any, without: str | tuple[str, ...]) -> int:
    """Return the size in bytes of all objects that an object holds, itself included.

    Classes, modules, code and frames do not count: they do not grow with what a program holds. The local variables of
    a suspended coroutine do.

    Args:
        root: The object.
        without: Objects whose class is in a module of such a prefix do not count, nor coroutines of its code and their
            tasks, nor what only these hold.
    """
    visited: set[int] = set()
    total = 0
    stack = [root]
    while stack:
        item = stack.pop()
        if id(item) in visited or isinstance(item, _SHARED) or _module(item).startswith(without):
            continue
        visited.add(id(item))
        total += sys.getsizeof(item)
        stack += gc.get_referents(item)
    return total


def _module(item: Any) -> str:
    """Return the module of an object's class, or that of the code of a coroutine or its task."""
    if isinstance(item, asyncio.Task):
        item = item.get_coro()
    if isinstance(item, types.CoroutineType) and item.cr_frame is not None:
        return str(item.cr_frame.f_globals.get("__name__", ""))
    return type(item).__module__
