"""Queues messages to devices until the broker link publishes them.

Frames are sealed when they are published, not when they are queued: a device accepts increasing counters only, and a
message of a higher lane overtakes those that wait.
"""

import asyncio
from collections.abc import Callable, Container
from typing import NamedTuple

from patrolink_messages import COMMAND, EVENT_STATE, PTT_GROUP, REJECT, TIME_SYNC
from patrolink_protocol.errors import RejectError

from patrolink.core.clock import Clock
from patrolink.core.keys import DeviceKey
from patrolink.hub.config import HubContext
from patrolink.hub.infra.downlink import EVENT_RECEIVED, Downlink
from patrolink.hub.infra.downlink_queue import DownlinkQueue, Outcome, lane_of, state_field
from patrolink.hub.infra.hub_requests import DeviceMessage, HubRequestError, HubRequests, Values
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.persistence import PersistentCounter

_STORAGE_RETRY_S = 1
_COUNTED_REASONS = ("device", "tag", "replay")


class Publication(NamedTuple):
    """A message for the broker."""

    topic: str
    payload: bytes


class _Waiting(NamedTuple):
    """A message in the queue. `body` is the encoded message at the home hub, empty elsewhere."""

    message: DeviceMessage
    body: bytes


class DeviceSender:
    """Sends messages to devices: sealed frames if this is the home hub, otherwise requests to the home hub.

    Args:
        bars: Barred devices.
        random_bytes: Returns a number of random bytes, for nonces.

    Attributes:
        home_topic: Topic of requests to the home hub.
    """

    def __init__(
        self,
        context: HubContext,
        bars: Container[str],
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        metrics: Metrics,
    ) -> None:
        self._is_home, self._bars, self._clock, self._metrics = context.is_home, bars, clock, metrics
        self.home_topic = f"h/{context.site.name}/home"
        self._requests = HubRequests(context, clock, random_bytes)
        self._counters = PersistentCounter(context.state / "downlink.json", 8192)
        self._downlink = Downlink(context.keys, self._counters.allocate)
        self._queue: DownlinkQueue[_Waiting] = DownlinkQueue()
        self._filled = asyncio.Event()
        metrics.gauges["downlink_waiting"] = self._queue.__len__

    # --- queue --------------------------------------------------------------------------------------------------------

    def send(self, device: str, kind: int, values: Values) -> None:
        """Queue a message to a device. At a limit, messages are dropped and counted; see DownlinkQueue.

        A barred device is sent answers to events, commands, and that it has left a group.

        Raises:
            ValueError: A field is out of range.
        """
        if device in self._bars and not _is_for_barred(kind, values):
            self._metrics.counts["downlink_barred"] += 1
            return
        body = self._downlink.encode(kind, values) if self._is_home else b""
        field = state_field(kind)
        key = None if field is None else (kind, values[field])
        lane = lane_of(kind)
        outcome = self._queue.put(device, lane, _Waiting(DeviceMessage(device, kind, values), body), key)
        if outcome == Outcome.SUPERSEDED:
            self._metrics.counts["downlink_superseded"] += 1
        elif outcome == Outcome.DROPPED:
            self._metrics.counts[f"downlink_dropped_{lane.name.lower()}"] += 1
        self._filled.set()

    def discard(self, device: str) -> None:
        """Discard the messages that wait for a device."""
        self._queue.discard(device)

    def acknowledge_event(self, device: str, event_id: int) -> None:
        """Report to a device that its event was received. Only the home hub does."""
        if self._is_home:
            values = {"event_id": event_id, "state": EVENT_RECEIVED, "time_ms": self._clock.unix_ms(), "who": b""}
            self.send(device, EVENT_STATE, values)

    def reject_frame(self, device: str, kind: int, counter: int, reason: str) -> None:
        """Report to a device that its frame was rejected. Only the home hub does.

        Args:
            device: Its id.
            kind: Message type of the frame.
            counter: Counter of the frame.
            reason: Name of the reason in the reject table.
        """
        if self._is_home:
            values = {
                "refused_counter": counter,
                "message_type": kind,
                "reason": RejectError(reason).reason,
                "detail": b"",
            }
            self.send(device, REJECT, values)

    def answer_time(self, device: str, originate_ms: int) -> None:
        """Tell a device the time, in answer to its `time_sync`. Only the home hub does."""
        if self._is_home:
            now_ms = self._clock.unix_ms()
            self.send(device, TIME_SYNC, {"originate_ms": originate_ms, "receive_ms": now_ms, "transmit_ms": now_ms})

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
        try:
            self.send(*message)
        except (ValueError, KeyError):  # of a hub with another schema
            self._metrics.refused["hub request"] += 1

    # --- broker link --------------------------------------------------------------------------------------------------

    def is_empty(self) -> bool:
        """Return True if no message waits."""
        return not self._queue

    async def next_publication(self) -> Publication:
        """Wait for the next message and return it, sealed. While storage fails, all messages wait."""
        while True:
            self._filled.clear()
            try:
                if self._is_home:
                    self._counters.prepare(1)
                waiting = self._queue.pop()
            except OSError:
                self._metrics.counts["storage_failed"] += 1
                await asyncio.sleep(_STORAGE_RETRY_S)
                continue
            if waiting is not None:
                return self._seal(waiting)
            await self._filled.wait()

    def _seal(self, waiting: _Waiting) -> Publication:
        device, kind, _ = waiting.message
        if self._is_home:
            return Publication(f"p/{device}/d", self._downlink.seal_body(device, kind, waiting.body))
        return Publication(self.home_topic, self._requests.seal(waiting.message))


def _is_for_barred(kind: int, values: Values) -> bool:
    return kind in (EVENT_STATE, COMMAND) or (kind == PTT_GROUP and not values["rights"])
