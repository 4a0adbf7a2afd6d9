"""Blocking work in a thread."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


async def run_to_end(function: Callable[[], _T]) -> _T:
    """Run a function in a thread and return its result.

    If the caller is cancelled, the cancellation takes effect after the function has ended, so that nobody else uses the
    same file meanwhile.
    """
    job = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        raise
