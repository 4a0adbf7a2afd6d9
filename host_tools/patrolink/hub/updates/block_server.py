"""Answers requests for blocks of images, at limited rates: a download must not delay voice, SOS or commands.

A device has one request at a time; one that comes while another waits replaces it. The blocks of all devices share a
rate, and requests above it wait for their turn. On the way to the broker, blocks have the lowest lane of all messages.
"""

from collections import OrderedDict
from typing import NamedTuple, Protocol

from patrolink_messages import FIRMWARE_BLOCK

from patrolink.core.clock import Clock
from patrolink.hub.infra.hub_requests import Values
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.rate_limits import Rate, TokenBucket
from patrolink.hub.updates.image_store import ImageStore

BLOCK_MAX = 900  # bytes, as in the protocol
_TOTAL = Rate(64, 10)  # blocks: 90 KB/s
_DEVICE = Rate(16, 100)


class Sender(Protocol):
    """Sends messages to devices: DeviceSender."""

    def send(self, device: str, kind: int, values: Values) -> None:
        """Queue a message to a device."""


class _Request(NamedTuple):
    image: str
    offset: int
    length: int


class BlockServer:
    """Serves blocks.

    Args:
        store: The images.
    """

    def __init__(self, store: ImageStore, sender: Sender, clock: Clock, metrics: Metrics) -> None:
        self._store, self._sender, self._clock, self._metrics = store, sender, clock, metrics
        self._total = TokenBucket(_TOTAL)
        self._devices: dict[str, TokenBucket] = {}
        self._waiting: OrderedDict[str, _Request] = OrderedDict()
        metrics.gauges["update_requests_waiting"] = self._waiting.__len__

    def request(self, device: str, image: str, offset: int, length: int) -> None:
        """Process a request for an image that the device may have."""
        bucket = self._devices.setdefault(device, TokenBucket(_DEVICE))
        if not bucket.take(self._clock.monotonic_ms()):
            self._metrics.refused["firmware request rate"] += 1
            return
        self._waiting[device] = _Request(image, offset, min(length, BLOCK_MAX))
        self.serve()

    def serve(self) -> None:
        """Answer requests that wait, as far as the rate permits."""
        while self._waiting and self._total.take(self._clock.monotonic_ms()):
            device, request = self._waiting.popitem(last=False)
            try:
                data = self._store.read(request.image, request.offset, request.length)
            except OSError:
                self._metrics.counts["storage_failed"] += 1
                continue
            if not data:
                self._metrics.refused["firmware request offset"] += 1
                continue
            values = {"image": bytes.fromhex(request.image), "offset": request.offset, "data": data}
            self._sender.send(device, FIRMWARE_BLOCK, values)
            self._metrics.counts["update_blocks"] += 1
            self._metrics.counts["update_bytes"] += len(data)

    def forget(self, device: str) -> None:
        """Discard the request of a device."""
        self._waiting.pop(device, None)
