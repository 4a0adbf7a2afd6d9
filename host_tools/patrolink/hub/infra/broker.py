"""Publishes the hub's queued messages through its connection to the MQTT broker, one after the other."""

import asyncio
import contextlib
from typing import Protocol

from patrolink.core.errors import UserError
from patrolink.core.timeouts import wait_for
from patrolink.hub.infra.device_sender import Publication
from patrolink.hub.infra.metrics import Metrics

_DRAIN_S = 1


class BrokerConnection(Protocol):
    """A persistent session at a broker, which delivers frames of devices on the event loop."""

    async def open(self) -> None:
        """Connect and subscribe. A later interruption is repaired.

        Raises:
            ServerError: The broker cannot be reached or refuses the hub.
        """

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1.

        Raises:
            UserError: The broker did not acknowledge the message.
        """

    async def close(self) -> None:
        """Stop to deliver frames, and disconnect."""


class Outgoing(Protocol):
    """Source of messages to publish: DeviceSender."""

    def is_empty(self) -> bool:
        """Return True if no message waits."""

    async def next_publication(self) -> Publication:
        """Wait for the next message and return it."""


class Broker:
    """Broker link of a hub.

    Args:
        outgoing: Messages to publish.
    """

    def __init__(self, connection: BrokerConnection, outgoing: Outgoing, metrics: Metrics) -> None:
        self._connection, self._outgoing, self._metrics = connection, outgoing, metrics

    async def start(self) -> None:
        """Connect and subscribe. A later interruption is repaired, and messages stay queued meanwhile.

        Raises:
            ServerError: The broker cannot be reached or refuses the hub.
        """
        await self._connection.open()
        self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while True:
            publication = await self._outgoing.next_publication()
            try:
                await self._connection.publish(*publication)
                self._metrics.counts["downlink"] += 1
            except UserError:
                self._metrics.counts["downlink_failed"] += 1

    async def close(self) -> None:
        """Publish what is queued, for one second at most, and disconnect."""
        with contextlib.suppress(asyncio.TimeoutError):
            await wait_for(self._drained(), _DRAIN_S)
        self._writer.cancel()
        await self._connection.close()

    async def _drained(self) -> None:
        while not self._outgoing.is_empty():
            await asyncio.sleep(0.02)
