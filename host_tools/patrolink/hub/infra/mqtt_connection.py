"""Connection of the hub to an MQTT broker: a thread reads frames and delivers them on the event loop in portions."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from patrolink.core.capture import Record
from patrolink.transport.mqtt import MqttTransport

_FRAMES_PER_TURN = 4  # a backlog of frames must not delay voice, which shares the event loop
_SLOT_WAIT_S = 0.2


class MqttConnection:
    """A BrokerConnection over the network.

    Args:
        url: Address of the broker.
        session: Client id of the hub's persistent session.
        on_topic: Further topics, each with a callback that is called on the event loop with the payload.
        on_record: Called on the event loop for each frame of a device, at most _FRAMES_PER_TURN in a turn of the loop.
            The frame is acknowledged afterwards: the broker keeps it while the hub is away or if the hub dies.
    """

    def __init__(
        self,
        url: str,
        session: str,
        on_topic: Mapping[str, Callable[[bytes], None]],
        on_record: Callable[[Record], None],
    ) -> None:
        self._url, self._session, self._on_topic, self._on_record = url, session, on_topic, on_record
        self._closing = False
        self._slots = threading.Semaphore(_FRAMES_PER_TURN)
        self._pool = ThreadPoolExecutor(1, "publisher")
        self._reader = threading.Thread(target=self._read, name="broker", daemon=True)

    async def open(self) -> None:
        """Connect and subscribe; see BrokerConnection."""
        self._loop = asyncio.get_running_loop()
        topics: dict[str, Callable[[bytes], None]] = {
            topic: _OnLoop(self._loop, callback) for topic, callback in self._on_topic.items()
        }
        self._transport = await asyncio.to_thread(MqttTransport, self._url, topics, self._session)
        self._reader.start()

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; see BrokerConnection."""
        await self._loop.run_in_executor(self._pool, self._transport.publish_to, topic, payload)

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
            self._on_record(record)
        finally:  # a frame that causes an error would otherwise come again without end
            self._slots.release()
            self._transport.acknowledge()

    async def close(self) -> None:
        """Stop to deliver frames, and disconnect."""
        self._closing = True
        await self._loop.run_in_executor(None, self._reader.join, 1)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._transport.close()


class _OnLoop:
    """Calls a function on the event loop, from any thread. After the loop has ended, calls are ignored."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[..., None]) -> None:
        self._loop, self._callback = loop, callback

    def __call__(self, *args: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._callback, *args)
