"""A limit for waiting in asyncio that loses no cancellation.

Before Python 3.12, `asyncio.wait_for` drops a cancellation that arrives as its awaitable ends. A caller that an outer
limit or a stop signal has cancelled then never ends.
"""

import sys
from collections.abc import Awaitable
from typing import TypeVar

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

_T = TypeVar("_T")


async def wait_for(awaitable: Awaitable[_T], seconds: float | None) -> _T:
    """Return the result of an awaitable.

    Args:
        awaitable: A coroutine or future; it is cancelled when the time is over.
        seconds: The limit; None for none.

    Raises:
        asyncio.TimeoutError: The time is over.
    """
    async with timeout(seconds):
        return await awaitable
