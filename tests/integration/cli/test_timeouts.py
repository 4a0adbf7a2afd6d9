"""Waiting with a limit: no cancellation is lost, whenever it arrives."""

import asyncio

import pytest
from patrolink.core.timeouts import wait_for

from tests.support.polling import TIMEOUT_S


def test_result_and_limit():
    async def run() -> None:
        assert await wait_for(asyncio.sleep(0, "result"), 10) == "result"
        assert await wait_for(asyncio.sleep(0, "result"), None) == "result"
        with pytest.raises(asyncio.TimeoutError):
            await wait_for(asyncio.Event().wait(), 0)

    asyncio.run(run())


def test_cancellation_as_the_awaitable_ends_is_not_lost():
    """asyncio.wait_for of Python 3.11 returns the result, and its caller, which was to stop, goes on without end."""

    async def run() -> None:
        result = asyncio.get_running_loop().create_future()

        async def job() -> None:
            await wait_for(result, 10)
            await asyncio.Event().wait()  # never

        task = asyncio.ensure_future(job())
        await asyncio.sleep(0)
        result.set_result(None)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=TIMEOUT_S)
        assert done and task.cancelled()

    asyncio.run(run())


def test_outer_limit_ends_an_inner_one():
    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await wait_for(wait_for(asyncio.Event().wait(), 10), 0.01)

    asyncio.run(run())
