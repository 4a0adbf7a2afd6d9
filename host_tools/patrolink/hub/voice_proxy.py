"""The voice of a hub, as the service uses it over the channel: groups, memberships of dispatchers, and metrics."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.channel import messages as m
from patrolink.hub.channel.ends import Channel
from patrolink.hub.group_table import GroupTable
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics, MetricsSnapshot
from patrolink.hub.voice.dispatcher_terms import DispatcherTerms

_FRAME_INTERVAL_MS = 10_000  # between two notices of frames of one device; a hello is always told
_METRICS_AGE_MS = 200  # a reader within this time gets the last values, so that nobody can keep the voice busy

_R = TypeVar("_R")


class VoiceUnavailableError(UserError):
    """The voice does not run at present."""

    def __init__(self) -> None:
        super().__init__("the hub's voice is starting again; retry in a few seconds")


class VoiceProxy:
    """The voice at the other end of the channel.

    Args:
        channel: The service's end.
        table: State of the groups.
        home_shard: Shard of the hub that has the private groups.
    """

    def __init__(self, channel: Channel, table: GroupTable, home_shard: int, clock: Clock, metrics: Metrics) -> None:
        self._channel, self._table, self._home_shard = channel, table, home_shard
        self._clock, self._metrics = clock, metrics
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[m.Reply]] = {}
        self._is_connected = False
        self._frames_ms: dict[str, int] = {}  # when the voice was last told of a frame
        self._snapshot: MetricsSnapshot | None = None
        self._snapshot_ms = 0

    # --- connection ---------------------------------------------------------------------------------------------------

    def connected(self, epochs: Mapping[str, int], barred: Iterable[str]) -> None:
        """Send the service's state: key epochs of devices, and the barred devices."""
        self._is_connected = True
        self._frames_ms.clear()
        for device, epoch in epochs.items():
            self._channel.send(m.KeyEpoch(device, epoch))
        self.set_barred(barred)
        self._channel.send(m.StateSent())

    def disconnected(self) -> None:
        """Refuse the requests that wait for a reply."""
        self._is_connected = False
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(VoiceUnavailableError())

    def replied(self, reply: m.Reply) -> None:
        """Process a reply."""
        future = self._pending.pop(reply.request, None)
        if future is not None and not future.done():
            future.set_result(reply)

    async def _request(self, make: Callable[[int], m.Request], reply_type: type[_R]) -> _R:
        if not self._is_connected:
            raise VoiceUnavailableError
        number = next(self._numbers)
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        self._channel.send(make(number))
        reply = await future
        if isinstance(reply, m.Failed):
            raise OSError(0, reply.error) if reply.is_storage else UserError(reply.error)
        assert isinstance(reply, reply_type), "the voice answers each request with its reply"
        return reply

    # --- groups -------------------------------------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """Return the state of all groups."""
        now_ms = self._clock.monotonic_ms()
        return [{**row, "now_ms": now_ms} for row in self._table.rows()]

    def private_group(self, device: str) -> int:
        """Return the number of a device's private group.

        Raises:
            UserError: The device is unknown, or this is not the home hub.
        """
        number = self._table.private_group(device)
        if number is None:
            raise UserError(
                f"no private group of {device!r} at this hub; private groups are at the hub of shard {self._home_shard}"
            )
        return number

    async def make_group(self, name: str, devices: list[str]) -> int:
        """Create a dynamic group and return its number; see GroupRegistry.make_group for errors."""
        return (await self._request(lambda number: m.MakeGroup(number, name, devices), m.Done)).number

    async def end_group(self, group: int) -> None:
        """End a dynamic group; see GroupRegistry.end_group for errors."""
        await self._request(lambda number: m.EndGroup(number, group), m.Done)

    async def join(
        self, session: int, name: str, priority: int, number: int, media_address: tuple[str, int]
    ) -> DispatcherTerms:
        """Make a dispatcher's session a member of a group; see VoiceService.join."""
        joined = await self._request(
            lambda request: m.Join(request, session, name, priority, number, *media_address), m.Joined
        )
        key = GroupKey(joined.key_number, joined.key_secret)
        return DispatcherTerms(joined.ssrc, joined.hub_ssrc, joined.mcptt_id, joined.session_key, key)

    def leave(self, session: int, number: int) -> None:
        """Remove a dispatcher's session from a group; its floor is released."""
        self._channel.send(m.Leave(session, number))

    # --- devices ------------------------------------------------------------------------------------------------------

    def frame_received(self, device: str, is_hello: bool) -> None:
        """Inform the voice of a frame of a device, which may need the terms of its groups."""
        now_ms = self._clock.monotonic_ms()
        last_ms = self._frames_ms.get(device)
        if is_hello or last_ms is None or now_ms - last_ms >= _FRAME_INTERVAL_MS:
            self._frames_ms[device] = now_ms
            self._channel.send(m.FrameReceived(device, is_hello))

    def report_received(self, device: str, room: int, groups: bytes) -> None:
        """Inform the voice of the groups and keys that a device holds: the fields of `ptt_status`."""
        self._channel.send(m.GroupReport(device, room, groups))

    def epoch_begun(self, device: str, epoch: int) -> None:
        """Inform the voice of a device's key epoch."""
        self._channel.send(m.KeyEpoch(device, epoch))

    def set_barred(self, devices: Iterable[str]) -> None:
        """Inform the voice of all devices that are barred."""
        self._channel.send(m.BarredDevices(sorted(devices)))

    # --- metrics ------------------------------------------------------------------------------------------------------

    async def metrics(self) -> MetricsSnapshot:
        """Return the metrics of the hub: of the service, and the newest known of the voice."""
        now_ms = self._clock.monotonic_ms()
        if self._snapshot is None or now_ms - self._snapshot_ms >= _METRICS_AGE_MS:
            self._snapshot_ms = now_ms
            try:
                self._snapshot = MetricsSnapshot(**(await self._request(m.ReadMetrics, m.MetricsRead)).snapshot)
            except VoiceUnavailableError:
                self._metrics.counts["voice_metrics_missing"] += 1
        own = self._metrics.snapshot()
        return own if self._snapshot is None else own.merged(self._snapshot)
