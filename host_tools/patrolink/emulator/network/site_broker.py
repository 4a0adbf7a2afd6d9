"""The broker of a simulated site: devices by MQTT packets, the hub by its persistent session.

It has the faults of a real one: messages of QoS 1 are delivered again, sessions of devices end with their connections,
and a killed broker loses what it has not saved.
"""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from patrolink.core.capture import Record
from patrolink.core.errors import ServerError
from patrolink.emulator.network.carrier import Network
from patrolink.emulator.network.virtual_broker import VirtualBroker
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop

# Of docs/guide/broker/mosquitto.conf, and mosquitto's defaults.
_MAX_INFLIGHT = 20
_MAX_QUEUED = 100_000
_AUTOSAVE_MS = 30_000
_RECONNECT_MS = 1000, 10_000  # of the hub's client
_PUBLISH_S = 10  # after this time the client no longer waits for an acknowledgement, but still sends the message


class _Message(NamedTuple):
    number: int
    device: str
    payload: bytes


class SiteBroker(VirtualBroker):
    """A broker with one application that has a persistent session: the hub.

    Args:
        scheduler: Virtual clock.
        seed: Seed of the delays.
        on_uplink: Called with device and payload of each frame when a device has published it.
        on_downlink: Called with device and payload of each frame to a device.
        on_lost: Called with device and payload of each frame that the broker has acknowledged and then lost.
        unix_ms: True time, stamped on what the hub receives.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        seed: str,
        on_uplink: Callable[[str, bytes], None],
        on_downlink: Callable[[str, bytes], None],
        on_lost: Callable[[str, bytes], None],
        unix_ms: Callable[[], int],
    ) -> None:
        super().__init__(scheduler, self._published)
        self.random = random.Random(f"{seed} broker")
        self._on_uplink, self._on_downlink, self._on_lost, self.unix_ms = on_uplink, on_downlink, on_lost, unix_ms
        self._numbers = itertools.count(1)
        self._queue: deque[_Message] = deque()
        self._in_flight: dict[int, _Message] = {}
        self._saved: set[int] = set()  # numbers that would survive a kill
        self._hub: HubConnection | None = None
        self._dropping_until_ms: dict[str, float] = {}  # for devices that get nothing
        self._delivered_ms = 0.0  # when the newest message to the hub arrives: one connection keeps the order
        self._autosave()

    # --- devices ------------------------------------------------------------------------------------------------------

    def _published(self, device: str, payload: bytes) -> None:
        self._on_uplink(device, payload)
        self.inject(device, payload)

    def network_of(self, device: str) -> Network | None:
        """Return the network that the session of a device comes from; None without a session."""
        session = self.sessions.get(device)
        return None if session is None else session.connection.network

    def inject(self, device: str, payload: bytes) -> None:
        """Queue a frame for the hub, as if the device had published it."""
        if len(self._queue) >= _MAX_QUEUED:
            self._on_lost(device, payload)
            return
        self._queue.append(_Message(next(self._numbers), device, payload))
        self._deliver()

    def send(self, device: str, payload: bytes) -> None:
        """Publish to the downlink topic of a device; lost if it has no session, or while its queue is full."""
        self._on_downlink(device, payload)
        if self.scheduler.now >= self._dropping_until_ms.get(device, 0):
            super().send(device, payload)

    def inject_down(self, device: str, payload: bytes) -> None:
        """Publish to the downlink topic of a device what an attacker has captured."""
        super().send(device, payload)

    # --- the hub ------------------------------------------------------------------------------------------------------

    def attach(self, connection: "HubConnection") -> None:
        """Continue the persistent session of the hub. An older connection is closed, as MQTT demands."""
        self.detach()
        self._hub = connection
        self._deliver()

    def detach(self) -> None:
        """The hub's connection has ended: what is in flight is delivered again."""
        self._hub = None
        self._queue.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()

    def _deliver(self) -> None:
        while self._hub is not None and self.up and self._queue and len(self._in_flight) < _MAX_INFLIGHT:
            message = self._queue.popleft()
            self._in_flight[message.number] = message
            self._delivered_ms = max(self._delivered_ms, self.scheduler.now + self.random.uniform(0.5, 3))
            self.scheduler.at(self._delivered_ms, self._hub.delivery(message))

    def acknowledge(self, connection: "HubConnection", number: int) -> None:
        """Forget a message that the hub has processed."""
        if connection is self._hub and self._in_flight.pop(number, None) is not None:
            self._saved.discard(number)
            self._deliver()

    # --- faults -------------------------------------------------------------------------------------------------------

    def _autosave(self) -> None:
        self._save()
        self.scheduler.after(_AUTOSAVE_MS, self._autosave)

    def _save(self) -> None:
        if self.up:
            self._saved = {message.number for message in (*self._in_flight.values(), *self._queue)}

    def drop(self, device: str, ms: float) -> None:
        """Drop all messages to a device for a time: its queue is full. Its session goes on."""
        self._dropping_until_ms[device] = self.scheduler.now + ms

    def restart(self, ms: float, killed: bool) -> None:
        """Stop for a time. A killed broker loses what it has not saved."""
        if not self.up:
            return
        hub = self._hub
        if not killed:
            self._save()
        self.stop()
        self.detach()
        lost = [message for message in self._queue if message.number not in self._saved]
        self._queue = deque(message for message in self._queue if message.number in self._saved)
        for message in lost:
            self._on_lost(message.device, message.payload)
        if hub is not None:
            hub.interrupted()
        self.scheduler.after(ms, self._start)

    def _start(self) -> None:
        self.up = True


class HubConnection:
    """The hub's client at the broker (`patrolink.hub.infra.broker.BrokerConnection`).

    Args:
        loop: Event loop of the hub.
        on_topic: Further topics; no other hub publishes in this simulation.
        on_record: The hub's callback for frames.
        process: Calls `on_record` with a record, and observes what the hub does.
    """

    def __init__(
        self,
        broker: SiteBroker,
        loop: VirtualLoop,
        on_topic: Mapping[str, Callable[[bytes], None]],
        on_record: Callable[[Record], None],
        process: Callable[[Callable[[Record], None], Record], None],
    ) -> None:
        self._broker, self._loop, self._on_topic = broker, loop, on_topic
        self._on_record, self._process = on_record, process
        self._connected: asyncio.Event | None = None
        self._pending: deque[tuple[str, bytes]] = deque()
        self._closed = False

    async def open(self) -> None:
        """Connect and subscribe; see BrokerConnection."""
        if not self._broker.up:
            raise ServerError("mqtt://broker: no connection; is the broker running?")
        self._connected = asyncio.Event()
        self._attach()

    def _attach(self) -> None:
        assert self._connected is not None
        self._broker.attach(self)
        self._connected.set()
        while self._pending:
            self._put(*self._pending.popleft())

    def interrupted(self) -> None:
        """The broker has gone: reconnect, as paho does, after increasing delays."""
        assert self._connected is not None
        self._connected.clear()
        self._reconnect(_RECONNECT_MS[0])

    def _reconnect(self, delay_ms: float) -> None:
        def attempt() -> None:
            if self._closed or self._loop.is_closed():
                return
            if self._broker.up:
                self._attach()
            else:
                self._reconnect(min(2 * delay_ms, _RECONNECT_MS[1]))

        self._broker.scheduler.after(delay_ms, attempt)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; see BrokerConnection."""
        assert self._connected is not None
        if self._connected.is_set():
            self._put(topic, payload)
            await asyncio.sleep(0.002)
            return
        self._pending.append((topic, payload))
        deadline = self._loop.time() + _PUBLISH_S
        while not self._connected.is_set() and self._loop.time() < deadline:
            await asyncio.sleep(0.1)

    def _put(self, topic: str, payload: bytes) -> None:
        if not self._loop.is_closed():
            self._broker.send(topic.split("/")[1], payload)

    def delivery(self, message: _Message) -> Callable[[], None]:
        """Return the action that delivers a message to the hub."""

        def deliver() -> None:
            if self._broker._hub is self and not self._loop.is_closed() and message.number in self._broker._in_flight:
                self._loop.call_soon(self._receive, message)

        return deliver

    def _receive(self, message: _Message) -> None:
        record = Record(self._broker.unix_ms(), message.device, message.payload)
        try:
            self._process(self._on_record, record)
        finally:
            self._broker.scheduler.after(1, lambda: self._acknowledge(message.number))

    def _acknowledge(self, number: int) -> None:
        if not self._loop.is_closed():  # a client that was killed acknowledges nothing
            self._broker.acknowledge(self, number)

    async def close(self) -> None:
        """Stop to deliver frames, and disconnect."""
        self._closed = True
        self._broker.detach()
