"""Connects the hub to the MQTT broker: frames of devices in, queued messages to devices out in order."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from patrolink.core.capture import Record
from patrolink.core.errors import UserError
from patrolink.core.timeouts import wait_for
from patrolink.hub.infra.device_sender import Publication
from patrolink.hub.infra.metrics import Metrics
from patrolink.transport.mqtt import MqttTransport

_DRAIN_S = 1
_FRAMES_PER_TURN = 4  # a backlog of frames must not delay voice, which shares the event loop
_SLOT_WAIT_S = 0.2


class Broker:
    """Broker link of a hub.

    Args:
        url: Address of the broker.
        session: Client id of the hub's persistent session.
        queue: Messages to publish, in order.
        on_uplink: Called on the event loop for each frame of a device, at most _FRAMES_PER_TURN in a turn of the loop.
            The frame is acknowledged afterwards: the broker keeps it while the hub is away or if the hub dies.
        on_topic: Further topics, each with a callback that is called on the event loop with the payload.
    """

    def __init__(
        self,
        url: str,
        session: str,
        queue: asyncio.Queue[Publication],
        on_uplink: Callable[[Record], None],
        on_topic: Mapping[str, Callable[[bytes], None]],
        metrics: Metrics,
    ) -> None:
        self._url, self._session, self._queue, self._on_uplink = url, session, queue, on_uplink
        self._on_topic, self._metrics = on_topic, metrics
        self._closing = False
        self._slots = threading.Semaphore(_FRAMES_PER_TURN)
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
        self._transport = await asyncio.to_thread(MqttTransport, self._url, topics, self._session)
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
        process = _OnLoop(self._loop, self._process)
        for record in self._transport.records():
            if record is not None:
                while not self._slots.acquire(timeout=_SLOT_WAIT_S):
                    if self._closing:
                        return
                process(record)
            if self._closing:
                return

    def _process(self, record: Record) -> None:
        try:
            self._on_uplink(record)
        finally:  # a frame that causes an error would otherwise come again without end
            self._slots.release()
            self._transport.acknowledge()

    async def close(self) -> None:
        """Publish what is queued, for one second at most, and disconnect."""
        with contextlib.suppress(asyncio.TimeoutError):
            await wait_for(self._drained(), _DRAIN_S)
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
