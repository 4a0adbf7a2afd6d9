"""Connects the hub to the MQTT broker: frames of devices in, queued messages to devices out in order."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from patrolink.core.capture import Record
from patrolink.core.errors import UserError
from patrolink.hub.infra.device_sender import Publication
from patrolink.hub.infra.metrics import Metrics
from patrolink.transport.mqtt import MqttTransport

_DRAIN_S = 1


class Broker:
    """Broker link of a hub.

    Args:
        url: Address of the broker.
        queue: Messages to publish, in order.
        on_uplink: Called on the event loop for each frame of a device.
        on_topic: Further topics, each with a callback that is called on the event loop with the payload.
    """

    def __init__(
        self,
        url: str,
        queue: asyncio.Queue[Publication],
        on_uplink: Callable[[Record], None],
        on_topic: Mapping[str, Callable[[bytes], None]],
        metrics: Metrics,
    ) -> None:
        self._url, self._queue, self._on_uplink = url, queue, on_uplink
        self._on_topic, self._metrics = on_topic, metrics
        self._closing = False
        self._pool = ThreadPoolExecutor(1, "publisher")
        self._reader = threading.Thread(target=self._read, name="broker", daemon=True)

    async def start(self) -> None:
        """Connect and subscribe. A later interruption is repaired, and messages stay queued meanwhile.

        Raises:
            ServerError: The broker cannot be reached or refuses the hub.
        """
        self._loop = asyncio.get_running_loop()
        topics: dict[str, Callable[[bytes], None]] = {
            topic: _OnLoop(self._loop, callback) for topic, callback in self._on_topic.items()
        }
        self._transport = await asyncio.to_thread(MqttTransport, self._url, topics)
        self._reader.start()
        self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while True:
            publication = await self._queue.get()
            try:
                await self._loop.run_in_executor(self._pool, self._transport.publish_to, *publication)
                self._metrics.counts["downlink"] += 1
            except UserError:
                self._metrics.counts["downlink_failed"] += 1

    def _read(self) -> None:
        on_uplink = _OnLoop(self._loop, self._on_uplink)
        for record in self._transport.records():
            if self._closing:
                return
            if record is not None:
                on_uplink(record)

    async def close(self) -> None:
        """Publish what is queued, for one second at most, and disconnect."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drained(), _DRAIN_S)
        self._writer.cancel()
        self._closing = True
        await self._loop.run_in_executor(None, self._reader.join, 1)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    async def _drained(self) -> None:
        while not self._queue.empty():
            await asyncio.sleep(0.02)


class _OnLoop:
    """Calls a function on the event loop, from any thread. After the loop has ended, calls are ignored."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[..., None]) -> None:
        self._loop, self._callback = loop, callback

    def __call__(self, *args: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._callback, *args)
