"""Jobs of a process that run until it is stopped."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def run_until(stop: "asyncio.Future[Any]", jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run jobs until `stop` is done. An exception in a job ends all of them and is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)  # they write their files to the end
    for task in failed:
        task.result()
