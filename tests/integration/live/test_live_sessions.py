"""Live sessions at a hub: watchers, notifications, ends, limits, and what a slow watcher receives."""

import asyncio
import contextlib
import functools
import io
import os
import time

import pytest
from patrolink.core.errors import UserError
from patrolink.hub.dispatch.client import connect
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.messages import LiveFrame
from patrolink.hub.live import depacketizer
from patrolink.hub.live.sessions import MAX_WATCHERS
from PIL import Image

from tests.support import live_camera
from tests.support.console_site import ConsoleSite
from tests.support.polling import TIMEOUT_S
from tests.support.site_file import OTHER, TOKEN

site, camera = live_camera.site, live_camera.camera
ABSENT = "vest-3"  # a device that never answers


class Watcher:
    """The client of a dispatcher.

    Attributes:
        rows: The `live` messages received.
        frames: The frames received: view id, and JPEG or RTP packet.
    """

    def __init__(self, client, frames: list[tuple[int, bytes]]) -> None:
        self.client, self.frames = client, frames
        self.rows: list[dict] = []
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while True:
            message = await self.client.next_message()
            if isinstance(message, dict) and message["type"] == "live":
                self.rows.append(message)

    async def wait(self, condition, seconds: float = TIMEOUT_S) -> None:
        """Wait until `condition()` is true."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.rows, len(self.frames))
            await asyncio.sleep(0.02)

    async def state(self, state: str) -> dict:
        """Wait until the newest row has this state and return the row."""
        await self.wait(lambda: self.rows and self.rows[-1]["state"] == state)
        return self.rows[-1]

    def close(self) -> None:
        self._reader.cancel()


@contextlib.asynccontextmanager
async def watchers(site: ConsoleSite, *tokens: str):
    """Yield one logged-in client per token."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for token in tokens:
            os.environ["PATROLINK_HUB_TOKEN"] = token
            frames: list[tuple[int, bytes]] = []
            client = await stack.enter_async_context(connect(site.url, functools.partial(add_frame, frames)))
            clients.append(Watcher(client, frames))
            stack.callback(clients[-1].close)
        yield clients


def add_frame(frames: list[tuple[int, bytes]], view: int, data: bytes) -> None:
    frames.append((view, data))


def complete_pictures(packets) -> list[bytes]:
    """Return the complete pictures of RTP packets."""
    stream, pictures = None, []
    for i, packet in enumerate(packets):
        stream = stream or depacketizer.create_depacketizer(packet[1] & 0x7F)
        pictures.append(stream.push(packet[12:], int.from_bytes(packet[4:8], "big"), packet[1] >= 0x80, i))
    return [picture for picture in pictures if picture is not None]


def test_view_ends_when_its_last_watcher_leaves(site, camera):
    name = camera.client.name

    async def run() -> None:
        async with watchers(site, TOKEN, OTHER) as (duty, second):
            view = await duty.client.request("live_start", device=name, seconds=60)
            assert (await second.state("asked"))["who"] == "duty"
            row = await second.state("on")
            assert (row["device"], row["view"], row["watchers"], row["seconds"]) == (name, view, ["duty"], 60)
            await duty.wait(lambda: len(duty.frames) > 5)
            assert not second.frames, "no frames without watching"
            assert {view_id for view_id, _ in duty.frames} == {view}
            sizes = {Image.open(io.BytesIO(jpeg)).size for _, jpeg in duty.frames}
            assert sizes == {(480, 352) if camera.fps == 15 else (320, 240)}

            assert await second.client.request("live_start", device=name, seconds=300, form="rtp") == view
            await duty.wait(lambda: duty.rows[-1]["watchers"] == ["duty", "second"])
            await second.wait(lambda: len(second.frames) > 20)
            packets = [packet for _, packet in second.frames]
            assert {packet[1] & 0x7F for packet in packets} == {96 if camera.fps == 15 else 26}
            numbers = [int.from_bytes(packet[2:4], "big") for packet in packets]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            # A later watcher receives a picture soon, because the hub requests a key frame. The next regular key frame
            # is picture 150.
            await second.wait(lambda: complete_pictures(packet for _, packet in second.frames))
            assert len({packet[4:8] for _, packet in second.frames}) < 60

            async with watchers(site, OTHER) as (third,):
                assert third.client.hello["live"][0]["watchers"] == ["duty", "second"]
                assert third.client.hello["live"][0]["state"] == "on"
                with pytest.raises(UserError, match=f"you do not watch {name}"):
                    await third.client.request("live_stop", device=name)
            await duty.client.request("live_stop", device=name)
            await second.wait(lambda: second.rows[-1]["watchers"] == ["second"])
            assert not camera.end_reasons
            await second.client.request("live_stop", device=name)
            assert (await duty.state("over"))["why"] == "no watchers left"
            await duty.wait(lambda: camera.end_reasons == ["stopped by the hub"])

    asyncio.run(run())
    camera.end_reasons.clear()
    rows = [row for row in site.audit() if row["what"].startswith("live") and row["device"] == name]
    assert [row["what"] for row in rows] == ["live_start", "live_start", "live_stop", "live_end", "live_stop"]
    assert [row["who"] for row in rows] == ["duty", "second", "duty", "", "second"]
    assert rows[1]["form"] == "rtp" and rows[3]["pictures"] > 5


def test_closed_connection_stops_watching(site, camera):
    async def run() -> None:
        async with watchers(site, OTHER) as (second,):
            async with watchers(site, TOKEN) as (duty,):
                await duty.client.request("live_start", device=camera.client.name, seconds=60)
                await duty.state("on")
            assert (await second.state("over"))["why"] == "no watchers left"
            await second.wait(lambda: camera.end_reasons == ["stopped by the hub"])

    asyncio.run(run())
    camera.end_reasons.clear()


def test_view_ends_after_the_requested_time(site, camera):
    async def run() -> None:
        async with watchers(site, TOKEN) as (duty,):
            await duty.client.request("live_start", device=camera.client.name, seconds=2)
            assert (await duty.state("over"))["why"] == "ended by the device"
            assert 1000 < duty.rows[-1]["on_ms"] < 20_000

    asyncio.run(run())
    assert camera.end_reasons == ["the requested time is over"]
    camera.end_reasons.clear()


def test_refusal_of_a_device_is_reported(site, camera):
    async def run() -> None:
        async with watchers(site, TOKEN) as (duty,):
            await duty.client.request("live_start", device=camera.client.name, seconds=60)
            assert (await duty.state("over"))["why"] == "the time is not known"
            with pytest.raises(UserError, match="no device 'nobody'"):
                await duty.client.request("live_start", device="nobody", seconds=60)
            with pytest.raises(UserError, match="live_start and live_stop"):
                await duty.client.request("command", device=ABSENT, action="live_view_start", value="10.0.0.1:5")

    camera.refusal = "the time is not known"
    try:
        asyncio.run(run())
    finally:
        camera.refusal = ""


def test_number_of_watchers_is_limited(site):
    async def run() -> None:
        async with watchers(site, *[TOKEN] * (MAX_WATCHERS + 1)) as (last, *others):
            for watcher in others:
                await watcher.client.request("live_start", device=ABSENT, seconds=60)
            with pytest.raises(UserError, match=f"{ABSENT} has {MAX_WATCHERS} watchers"):
                await last.client.request("live_start", device=ABSENT, seconds=60)
            metrics = site.http_request("GET", "/metrics")[2]
            assert f"patrolink_hub_live_watchers {MAX_WATCHERS}" in metrics and "patrolink_hub_live_views 1" in metrics

    asyncio.run(run())


def test_hub_without_live_port_rejects_the_request(tmp_path, separate_broker):
    site = ConsoleSite(tmp_path, separate_broker)

    async def run() -> None:
        async with watchers(site, TOKEN) as (duty,):
            with pytest.raises(UserError, match="live_port"):
                await duty.client.request("live_start", device="vest-1")

    try:
        asyncio.run(run())
    finally:
        site.process.stop()


def test_slow_session_gets_the_newest_picture_of_each_view_after_all_messages():
    async def run() -> None:
        session = MessageQueue("slow")
        frames = [LiveFrame(view, i, b"") for i in range(3) for view in (7, 8)]
        assert [session.put_picture(frame) for frame in frames] == [True] * 2 + [False] * 4
        session.put({"type": "event"})
        messages = [await session.next() for _ in range(3)]
        assert messages == [{"type": "event"}, LiveFrame(7, 2, b""), LiveFrame(8, 2, b"")]

    asyncio.run(run())
