"""Live view as dispatchers have it at a hub: who watches, who is told, what ends it, what a slow one is shown."""

import asyncio
import contextlib
import io
import os
import time

import pytest
from patrolink.core.errors import UserError
from patrolink.hub.dispatch.client import connect
from patrolink.hub.dispatch.messages import LiveFrame
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.live import depacketizer
from patrolink.hub.live.sessions import MOST_WATCHERS
from PIL import Image

from tests.support import live_camera
from tests.support.console_site import OTHER, TOKEN, ConsoleSite
from tests.support.polling import TIMEOUT_S

site, camera = live_camera.site, live_camera.camera
WITHOUT = "vest-3"  # a device that is not there


class Watcher:
    """A dispatcher's tool; `told` are the rows of live views, `shown` what came of them."""

    def __init__(self, client) -> None:
        self.client, self.told, self.shown = client, [], []
        client.sight = lambda view, data: self.shown.append((view, data))
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while True:
            it = await self.client.next()
            if isinstance(it, dict) and it["type"] == "live":
                self.told.append(it)

    async def until(self, what, seconds: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, (self.told, len(self.shown))
            await asyncio.sleep(0.02)

    async def state(self, state: str) -> dict:
        await self.until(lambda: self.told and self.told[-1]["state"] == state)
        return self.told[-1]

    def close(self) -> None:
        self._reading.cancel()


@contextlib.asynccontextmanager
async def entered(site: ConsoleSite, *tokens: str):
    """Dispatchers' tools that are logged in, one a token."""
    async with contextlib.AsyncExitStack() as stack:
        watchers = []
        for token in tokens:
            os.environ["PATROLINK_HUB_TOKEN"] = token
            it = Watcher(await stack.enter_async_context(connect(site.url)))
            stack.callback(it.close)
            watchers.append(it)
        yield watchers


def whole(packets) -> list[bytes]:
    """Return the pictures that can be put together and decoded."""
    take, out = None, []
    for i, packet in enumerate(packets):
        take = take or depacketizer.assembler(packet[1] & 0x7F)
        out.append(take(packet[12:], int.from_bytes(packet[4:8], "big"), packet[1] >= 0x80, i))
    return [it for it in out if it is not None]


def test_two_watch_and_the_last_who_goes_ends_it(site, camera):
    name = camera.client.name

    async def run() -> None:
        async with entered(site, TOKEN, OTHER) as (duty, second):
            view = await duty.client.ask("live_start", device=name, seconds=60)
            assert (await second.state("asked"))["who"] == "duty"
            row = await second.state("on")
            assert (row["device"], row["view"], row["watchers"], row["seconds"]) == (name, view, ["duty"], 60)
            await duty.until(lambda: len(duty.shown) > 5)
            assert not second.shown, "who does not watch is shown nothing"
            assert {it for it, _ in duty.shown} == {view}
            sizes = {Image.open(io.BytesIO(jpeg)).size for _, jpeg in duty.shown}
            assert sizes == {(480, 352) if camera.fps == 15 else (320, 240)}

            assert await second.client.ask("live_start", device=name, seconds=300, form="rtp") == view
            await duty.until(lambda: duty.told[-1]["watchers"] == ["duty", "second"])
            await second.until(lambda: len(second.shown) > 20)
            packets = [packet for _, packet in second.shown]
            assert {packet[1] & 0x7F for packet in packets} == {96 if camera.fps == 15 else 26}
            numbers = [int.from_bytes(packet[2:4], "big") for packet in packets]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            # Who comes later sees a picture soon: a key frame is asked for; the next would be the 150th picture.
            await second.until(lambda: whole(packet for _, packet in second.shown))
            assert len({packet[4:8] for _, packet in second.shown}) < 60

            async with entered(site, OTHER) as (third,):
                assert third.client.hello["live"][0]["watchers"] == ["duty", "second"]
                assert third.client.hello["live"][0]["state"] == "on"
                with pytest.raises(UserError, match=f"you do not watch {name}"):
                    await third.client.ask("live_stop", device=name)
            await duty.client.ask("live_stop", device=name)
            await second.until(lambda: second.told[-1]["watchers"] == ["second"])
            assert not camera.ends
            await second.client.ask("live_stop", device=name)
            assert (await duty.state("over"))["why"] == "nobody watches any more"
            await duty.until(lambda: camera.ends == ["told to"])

    asyncio.run(run())
    camera.ends.clear()
    said = [row for row in site.audit() if row["what"].startswith("live") and row["device"] == name]
    assert [row["what"] for row in said] == ["live_start", "live_start", "live_stop", "live_end", "live_stop"]
    assert [row["who"] for row in said] == ["duty", "second", "duty", "", "second"]
    assert said[1]["form"] == "rtp" and said[3]["pictures"] > 5


def test_a_page_that_is_closed_watches_no_more(site, camera):
    async def run() -> None:
        async with entered(site, OTHER) as (second,):
            async with entered(site, TOKEN) as (duty,):
                await duty.client.ask("live_start", device=camera.client.name, seconds=60)
                await duty.state("on")
            assert (await second.state("over"))["why"] == "nobody watches any more"
            await second.until(lambda: camera.ends == ["told to"])

    asyncio.run(run())
    camera.ends.clear()


def test_it_lasts_as_long_as_it_was_asked_for(site, camera):
    async def run() -> None:
        async with entered(site, TOKEN) as (duty,):
            await duty.client.ask("live_start", device=camera.client.name, seconds=2)
            assert (await duty.state("over"))["why"] == "the device ended it"
            assert 1000 < duty.told[-1]["on_ms"] < 20_000

    asyncio.run(run())
    assert camera.ends == ["time is over"]
    camera.ends.clear()


def test_what_a_device_refuses_is_told(site, camera):
    async def run() -> None:
        async with entered(site, TOKEN) as (duty,):
            await duty.client.ask("live_start", device=camera.client.name, seconds=60)
            assert (await duty.state("over"))["why"] == "the time is not known"
            with pytest.raises(UserError, match="no device 'nobody'"):
                await duty.client.ask("live_start", device="nobody", seconds=60)
            with pytest.raises(UserError, match="live_start and live_stop"):
                await duty.client.ask("command", device=WITHOUT, action="live_view_start", value="10.0.0.1:5")

    camera.refuses = "the time is not known"
    try:
        asyncio.run(run())
    finally:
        camera.refuses = ""


def test_watchers_are_bounded(site):
    async def run() -> None:
        async with entered(site, *[TOKEN] * (MOST_WATCHERS + 1)) as (last, *others):
            for it in others:
                await it.client.ask("live_start", device=WITHOUT, seconds=60)
            with pytest.raises(UserError, match=f"{MOST_WATCHERS} watch {WITHOUT} already"):
                await last.client.ask("live_start", device=WITHOUT, seconds=60)
            metrics = site.http_request("GET", "/metrics")[2]
            assert f"patrolink_hub_live_watchers {MOST_WATCHERS}" in metrics and "patrolink_hub_live_views 1" in metrics

    asyncio.run(run())


def test_a_hub_without_a_port_says_so(tmp_path, separate_broker):
    site = ConsoleSite(tmp_path, separate_broker)

    async def run() -> None:
        async with entered(site, TOKEN) as (duty,):
            with pytest.raises(UserError, match="live_port"):
                await duty.client.ask("live_start", device="vest-1")

    try:
        asyncio.run(run())
    finally:
        site.process.stop()


def test_a_slow_desk_is_shown_the_newest_picture_of_each_view_and_what_is_told_comes_first():
    async def run() -> None:
        desk = DispatcherSession(None, "slow", 0)
        assert [desk.put_picture(LiveFrame(view, i, b"")) for i in range(3) for view in (7, 8)] == [True] * 2 + [
            False
        ] * 4
        desk.put({"type": "event"})
        assert [await desk.next() for _ in range(3)] == [{"type": "event"}, LiveFrame(7, 2, b""), LiveFrame(8, 2, b"")]

    asyncio.run(run())
