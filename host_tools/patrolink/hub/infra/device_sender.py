"""Queues messages to devices until the broker link publishes them."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from patrolink.core.clock import Clock
from patrolink.core.keys import DeviceKey
from patrolink.hub.config import HubContext
from patrolink.hub.infra.downlink import Downlink
from patrolink.hub.infra.hub_requests import DeviceMessage, HubRequestError, HubRequests, Values
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.persistence import PersistentCounter

_MAX_QUEUED = 20_000
_COUNTED_REASONS = ("device", "tag", "replay")


class Publication(NamedTuple):
    """A message for the broker."""

    topic: str
    payload: bytes


class DeviceSender:
    """Sends messages to devices: sealed frames if this is the home hub, otherwise requests to the home hub.

    Args:
        random_bytes: Returns a number of random bytes, for nonces.

    Attributes:
        queue: What the broker link has to publish, in order.
        home_topic: Topic of requests to the home hub.
    """

    def __init__(
        self, context: HubContext, clock: Clock, random_bytes: Callable[[int], bytes], metrics: Metrics
    ) -> None:
        self._is_home, self._clock, self._metrics = context.is_home, clock, metrics
        self.home_topic = f"h/{context.site.name}/home"
        self._requests = HubRequests(context, clock, random_bytes)
        self._downlink = Downlink(context.keys, PersistentCounter(context.state / "downlink.json", 1024).allocate)
        self.queue: asyncio.Queue[Publication] = asyncio.Queue(_MAX_QUEUED)
        metrics.gauges["downlink_waiting"] = self.queue.qsize

    def send(self, device: str, kind: int, values: Values) -> None:
        """Queue a message to a device. It is dropped and counted if the queue is full."""
        if self._is_home:
            self._put(f"p/{device}/d", self._downlink.seal(device, kind, values))
        else:
            self._put(self.home_topic, self._requests.seal(DeviceMessage(device, kind, values)))

    def acknowledge_event(self, device: str, event_id: int) -> None:
        """Report to a device that its event was received. Only the home hub does."""
        if self._is_home:
            frame = self._downlink.acknowledge_event(device, event_id, self._clock.unix_ms())
            self._put(f"p/{device}/d", frame)

    def rekey(self, device: str, key: DeviceKey) -> None:
        """Use another key epoch of a device from now on."""
        self._downlink.rekey(device, key)

    def on_request(self, data: bytes) -> None:
        """Process a request of another hub, if this is the home hub."""
        try:
            message = self._requests.open(data)
        except HubRequestError as e:
            reason = str(e)
            self._metrics.refused[f"hub request: {reason}" if reason in _COUNTED_REASONS else "hub request"] += 1
            return
        self.send(*message)

    def _put(self, topic: str, payload: bytes) -> None:
        try:
            self.queue.put_nowait(Publication(topic, payload))
        except asyncio.QueueFull:
            self._metrics.counts["downlink_dropped"] += 1
