"""Voice of one hub behind one interface: groups, floor control, relay, presence and recordings."""

import asyncio
import functools
from collections.abc import Awaitable, Iterable
from typing import Any, NamedTuple

from patrolink.core.clock import Clock
from patrolink.hub.config import HubContext
from patrolink.hub.infra.datagram_reader import DatagramReader, SourceLimiter
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.threads import run_to_end
from patrolink.hub.infra.udp import UdpSocket
from patrolink.hub.voice.bursts import BurstTable, RelayedBurst
from patrolink.hub.voice.control_receiver import ControlReceiver
from patrolink.hub.voice.dispatcher_terms import DispatcherTerms
from patrolink.hub.voice.floor_sender import FloorSender
from patrolink.hub.voice.floor_server import FloorServer
from patrolink.hub.voice.floor_status import floor_status
from patrolink.hub.voice.floor_trace import FloorTrace
from patrolink.hub.voice.floor_types import FloorEvent, FloorEventKind
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink.hub.voice.group_terms import GroupTerms
from patrolink.hub.voice.groups import Device, Group
from patrolink.hub.voice.presence import DevicePresence
from patrolink.hub.voice.recorder import Recorder, RecordingWriter
from patrolink.hub.voice.relay import VoiceRelay
from patrolink.hub.voice.service_link import ServiceLink

FLOOR_LIMIT, MEDIA_LIMIT = 60, 250  # datagrams of one source per second; 1 s of pre-roll arrives at once
_SAVE_INTERVAL_S = 3  # of device addresses
_PORTIONS = 20  # of a second: little work at once beside voice
_MAX_CHANGED = 5  # groups whose state is sent to the service at once, besides those whose floor changes


class VoiceSockets(NamedTuple):
    """The hub's UDP sockets. The voice service closes them."""

    floor: UdpSocket
    media: UdpSocket


class VoiceService:
    """Voice of one hub.

    Args:
        sockets: Bound sockets, as `bind_udp` returns them.
        writer: Writes recordings.
        registry: Groups and devices.
        terms: Informed when a device appears.
        service: Gets the state of floors, groups and recordings.
        trace: Receives each floor message in plain text; None: no trace.

    Attributes:
        recorder: Records every burst.
    """

    def __init__(
        self,
        context: HubContext,
        sockets: VoiceSockets,
        writer: RecordingWriter,
        registry: GroupRegistry,
        terms: GroupTerms,
        service: ServiceLink,
        clock: Clock,
        metrics: Metrics,
        trace: FloorTrace | None,
    ) -> None:
        self._sockets, self._registry, self._service = sockets, registry, service
        self._clock, self._metrics = clock, metrics
        self._status_pending: set[int] = set()  # groups whose state is about to be broadcast
        self._talking: dict[int, Group] = {}  # by number
        self._changed: dict[int, None] = {}  # groups whose number of present members has changed
        self._keys_due: dict[int, Group] = {}  # groups whose key an expelled device knows
        self._readmissions: set[str] = set()  # devices that get their memberships back
        self._bursts = BurstTable()
        self._presence = DevicePresence(
            registry.devices, registry.dispatchers, context.state / "addresses.json", self._mark_changed,
            service.suspect_clone, clock, metrics,
        )  # fmt: skip
        self.recorder = Recorder(writer, self._publish_recording, metrics)
        sender = FloorSender(sockets.floor, registry.rtcp_indices, metrics, trace)
        self._server = FloorServer(clock, registry.memberships, sender, self._on_floor_event)
        control = ControlReceiver(registry.memberships, self._presence, self._server, sender, terms, metrics, trace)
        self._relay = VoiceRelay(
            sockets.media, self._bursts, self._server, self._presence, control, self.recorder, clock, metrics
        )
        # A dispatcher's session sends floor messages and voice from one address.
        self._limiters = floor_limiter, media_limiter = SourceLimiter(FLOOR_LIMIT), SourceLimiter(MEDIA_LIMIT)
        self._readers = (
            DatagramReader(sockets.floor, floor_limiter.admit, control.on_floor_datagram, clock, metrics),
            DatagramReader(sockets.media, media_limiter.admit, self._relay.on_media_datagram, clock, metrics),
        )
        metrics.gauges.update(
            groups=self._count_groups,
            bursts_on=self._count_bursts,
            queued=self._count_queued,
            devices_present=self._count_present,
        )

    # --- life cycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open all floors and read the sockets from now on."""
        self._server.start()
        self._presence.start()
        for reader in self._readers:
            reader.start()
        for group in self._registry.groups.values():
            self._server.open_group(group)

    def close(self) -> None:
        """Stop timers, stop reading, and close the sockets."""
        self._server.close()
        for reader in self._readers:
            reader.close()
        for sock in self._sockets:
            sock.close()

    async def run(self) -> None:
        """Do the periodic work until cancelled."""
        while True:
            for portion in range(_PORTIONS):
                await asyncio.sleep(1 / _PORTIONS)
                self._presence.expire(portion, _PORTIONS)
                self._publish_changed()
            for limiter in self._limiters:
                limiter.reset()
            self._publish_counts()

    async def store(self) -> None:
        """Write to storage what is due, in threads, until cancelled."""
        while True:
            for _ in range(_SAVE_INTERVAL_S):
                await self.complete_changes()
                await self._count_failure(self._registry.prepare())
                await asyncio.sleep(1)
            snapshot = self._presence.snapshot()
            await self._count_failure(run_to_end(functools.partial(self._presence.save, snapshot)))

    async def _count_failure(self, job: Awaitable[None]) -> None:
        try:
            await job
        except OSError:
            self._metrics.counts["storage_failed"] += 1

    def save(self) -> None:
        """Write the device addresses to storage.

        Raises:
            OSError: Storage failed.
        """
        self._presence.save(self._presence.snapshot())

    # --- groups -------------------------------------------------------------------------------------------------------

    def group_numbers(self) -> list[int]:
        """Return the numbers of all groups."""
        return list(self._registry.groups)

    def group(self, number: int) -> dict[str, Any] | None:
        """Return the state of a group as the console shows it; None if there is no such group."""
        group = self._registry.groups.get(number)
        return self._status(group) if group is not None else None

    def device(self, name: str) -> Device | None:
        """Return a device of the site, None if it is not known."""
        return self._registry.devices.get(name)

    def rekey(self, name: str, epoch: int) -> None:
        """Follow a device into another key epoch."""
        device = self._registry.devices.get(name)
        if device is not None and device.key.epoch != epoch:
            device.rekey(epoch)

    def _status(self, group: Group) -> dict[str, Any]:
        counts = self._bursts.counts(group)
        return {
            "group": group.number,
            "name": group.name,
            "kind": "standing" if group.kind == "group" else group.kind,
            "codec": group.codec,
            "rank": group.rank,
            **floor_status(group.floor),
            "members": list(group.memberships),
            "desks": len(group.dispatchers),
            "now_ms": self._clock.monotonic_ms(),
            **counts._asdict(),
        }

    async def make_group(self, name: str, devices: list[str]) -> int:
        """Create a dynamic group and return its number; see GroupRegistry.make_group for errors."""
        group = await self._registry.make_group(name, devices)
        self._presence.members_added(group)
        self._server.open_group(group)
        self._service.broadcast({"type": "group", **self._status(group)})
        return group.number

    async def end_group(self, number: int) -> None:
        """End a dynamic group; see GroupRegistry.end_group for errors."""
        group = await self._registry.end_group(number)
        self._server.close_group(group)
        self._bursts.remove_group(number)
        self._talking.pop(number, None)
        self._service.broadcast({"type": "gone", "group": number})

    # --- barred devices -----------------------------------------------------------------------------------------------

    def set_barred(self, devices: Iterable[str]) -> None:
        """Bar devices that are not barred yet, and admit those that no longer are.

        A barred device leaves all groups, and its bursts end. `complete_changes` gives the groups new keys without an
        overlap, and the admitted devices their memberships.
        """
        required = self._registry.devices.keys() & set(devices)
        for device in sorted(required - self._registry.barred):
            self._expel(device)
        self._readmissions |= self._registry.barred - required
        self._readmissions -= required

    def _expel(self, name: str) -> None:
        device = self._registry.devices[name]
        self._presence.forget(device)
        self._bursts.remove_device(device)
        for group in self._registry.expel(name):
            self._keys_due[group.number] = group
            self._server.update(group)
            self._service.broadcast({"type": "group", **self._status(group)})

    async def complete_changes(self) -> None:
        """Do what needs storage. While storage fails, it is tried again each second."""
        due = [group for number, group in self._keys_due.items() if number in self._registry.groups]
        self._keys_due.clear()
        try:
            if due:
                await self._registry.replace_keys(due)
                due = []
            while self._readmissions:
                device = min(self._readmissions)
                for group in await self._registry.readmit(device):
                    self._service.broadcast({"type": "group", **self._status(group)})
                self._readmissions.discard(device)
        except OSError:
            self._metrics.counts["storage_failed"] += 1
        finally:
            self._keys_due |= {group.number: group for group in due}

    # --- dispatchers as participants ----------------------------------------------------------------------------------

    def join(
        self, session: int, name: str, priority: int, number: int, media_address: tuple[str, int]
    ) -> DispatcherTerms:
        """Make a dispatcher's session a member of a group.

        Floor messages go to the address from which the session sends its keepalives. The keepalive after this call
        brings it the state of the floor.

        Args:
            session: Number of the session, chosen by the caller.
            name: Name of the dispatcher.
            priority: Highest priority that the dispatcher may request.
            number: The group.
            media_address: Where the session receives voice.

        Raises:
            UserError: The hub has no such group.
            OSError: Storage failed.
        """
        membership = self._registry.join(session, name, priority, number)
        device, member, group = membership.device, membership.member, membership.group
        self._presence.dispatcher_joined(device, media_address)
        self._mark_changed(group)
        return DispatcherTerms(member.ssrc, group.floor.hub_ssrc, device.mcptt_id, device.key.secret, group.key)

    def leave(self, session: int, number: int) -> None:
        """Remove a dispatcher's session from a group; its floor is released."""
        group = self._registry.leave(session, number)
        if group is not None:
            self._server.update(group)
            self._mark_changed(group)

    def leave_all(self) -> None:
        """Remove all dispatchers' sessions from all groups."""
        for session, device in list(self._registry.dispatchers.items()):
            for number in list(device.memberships):
                self.leave(session, number)

    # --- events -------------------------------------------------------------------------------------------------------

    def _on_floor_event(self, group: Group, event: FloorEvent) -> None:
        self._metrics.counts[f"floor_{event.kind.value}"] += 1
        if event.kind == FloorEventKind.BEGIN:
            assert event.member is not None
            membership = self._registry.memberships.get(event.member.ssrc)
            if membership is not None:  # otherwise the group has ended at once
                self._bursts.add(RelayedBurst(group, event.member, membership.device, event.ssrc))
                self.recorder.begin(group, event)
        elif event.kind == FloorEventKind.END:
            self.recorder.end(event)
        if group.floor.burst is not None:
            self._talking[group.number] = group
        else:
            self._talking.pop(group.number, None)
        if group.number not in self._status_pending:
            self._status_pending.add(group.number)
            asyncio.get_running_loop().call_soon(self._publish_floor, group)

    def _publish_floor(self, group: Group) -> None:
        self._status_pending.discard(group.number)
        if group.number in self._registry.groups:
            self._service.broadcast({"type": "floor", **self._status(group)})

    def _publish_counts(self) -> None:
        self._service.count([(group.number, *self._bursts.counts(group)) for group in self._talking.values()])

    def _mark_changed(self, group: Group) -> None:
        self._changed[group.number] = None

    def _publish_changed(self) -> None:
        for number in list(self._changed)[:_MAX_CHANGED]:
            del self._changed[number]
            row = self.group(number)
            if row is not None:
                self._service.group_changed(row)

    def _publish_recording(self, row: dict[str, Any]) -> None:
        self._service.broadcast({"type": "recording", **row})

    # --- gauges -------------------------------------------------------------------------------------------------------

    def _count_groups(self) -> int:
        return len(self._registry.groups)

    def _count_bursts(self) -> int:
        return sum(group.floor.burst is not None for group in self._registry.groups.values())

    def _count_queued(self) -> int:
        return sum(len(group.floor.queue) for group in self._registry.groups.values())

    def _count_present(self) -> int:
        return sum(device.last_seen_ms is not None for device in self._registry.devices.values())
