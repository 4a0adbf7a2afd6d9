"""Sends devices the terms of their groups (`ptt_group`), and again where a device's report shows other terms.

Devices report the groups and keys that they hold (PTT.md, "Reports"). A message that was lost on its way to the device,
or dropped by the hub or the broker, is found by the next report and sent again.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from patrolink_messages import PTT_GROUP
from patrolink_names import BITS, NAMES
from patrolink_protocol import group_report

from patrolink.core.clock import Clock
from patrolink.hub.config import HubConfig
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.groups import Device, Membership
from patrolink.hub.voice.terms_queue import IN_FLIGHT_MS, DeviceGroup, TermsQueue

TURN_S, TURN_MESSAGES = 0.02, 5  # at most 250 messages a second, and little work at once beside voice
_IDLE_TURN_S = 0.1  # while repeats are deferred
_HELLO_HOLD_MS = 1000
_RIGHTS = {name: 1 << i for i, name in enumerate(BITS["ptt_group", "rights"])}
_KINDS = {name: code for code, name in NAMES["ptt_group", "kind"].items()}
_CODECS = {name: code for code, name in NAMES["ptt_group", "codec"].items()}
_NO_MEMBERSHIP = {
    "kind": 0, "rights": 0, "priority": 0, "rank": 0, "codec": 0, "hub_ssrc": 0, "key": 0,
    "ssrc": 1 << 31, "wrapped": b"", "name": b"",
}  # fmt: skip


class MessageSender(Protocol):
    """Sends protocol messages to devices through the broker."""

    def send(self, device: str, kind: int, values: dict[str, Any]) -> None:
        """Send one message. It is queued while the broker is not reachable."""


class GroupTerms:
    """Keeps the devices' groups and keys equal to the hub's.

    Args:
        hub: Where devices reach the hub's floor and media sockets.
        owns: Returns True for the number of a group that this hub decides on, existing or not.
    """

    def __init__(
        self, hub: HubConfig, owns: Callable[[int], bool], sender: MessageSender, clock: Clock, metrics: Metrics
    ) -> None:
        self._endpoint = {"floor_port": hub.floor_port, "media_port": hub.media_port, "host": hub.host.encode()}
        self._owns, self._sender, self._clock, self._metrics = owns, sender, clock, metrics
        self._queue = TermsQueue()
        self._filled, self._is_connected = asyncio.Event(), asyncio.Event()
        self._devices: dict[str, Device] = {}  # those with terms in the queue
        self._known: set[str] = set()  # devices that have reported, or were sent everything, since the hub started
        self._differing: set[str] = set()  # devices whose last report differs
        self._excess_ms: dict[str, int] = {}  # when a device was last sent that it has left groups of its report
        metrics.gauges["terms_waiting"] = self._queue.__len__
        metrics.gauges["terms_differing"] = self._differing.__len__

    # --- what devices need --------------------------------------------------------------------------------------------

    def announce(self, device: Device, number: int) -> None:
        """Send a device the terms of one group that has changed."""
        self._devices[device.name] = device
        self._queue.add_change(DeviceGroup(device.name, number))
        self._filled.set()

    def frame_received(self, device: Device, is_hello: bool) -> None:
        """Send all groups after a hello.

        Also after the first frame since the hub started, unless the device is on the floor socket: its next report is
        due there within 15 s.
        """
        if is_hello or (device.last_seen_ms is None and device.name not in self._known):
            self._known.add(device.name)
            for number in device.memberships:
                self._repeat(device, number, _HELLO_HOLD_MS)

    def report_received(self, device: Device, room: int, entries: list[group_report.Entry]) -> None:
        """Compare the groups that a device holds with its terms, and send what differs.

        Groups of other hubs may be among the entries; they are ignored.

        Args:
            device: The device.
            room: Number of further groups that the device can hold.
            entries: The groups and keys that it holds.
        """
        self._known.add(device.name)
        reported = {entry.group: (entry.key, entry.digest) for entry in entries}
        excess = [number for number in reported if number not in device.memberships and self._owns(number)]
        wrong, missing = [], []
        for number, membership in device.memberships.items():
            if number not in reported:
                missing.append(number)
            elif reported[number] == (membership.group.key.number, self._digest(membership)):
                self._queue.cancel_repeat(DeviceGroup(device.name, number))
            else:
                wrong.append(number)
                self._metrics.counts["keys_missing"] += reported[number][0] == 0
        for number in [*self._admit(device, excess), *wrong, *missing[:room]]:
            self._repeat(device, number)
        (self._differing.add if excess or wrong or missing else self._differing.discard)(device.name)

    def _admit(self, device: Device, excess: list[int]) -> list[int]:
        """Limit the messages about groups that a device has made up: those of one report in IN_FLIGHT_MS."""
        now_ms = self._clock.monotonic_ms()
        last_ms = self._excess_ms.get(device.name)
        if not excess or (last_ms is not None and now_ms - last_ms < IN_FLIGHT_MS):
            return []
        self._excess_ms[device.name] = now_ms
        return excess

    def _repeat(self, device: Device, number: int, *hold_ms: int) -> None:
        self._devices[device.name] = device
        self._queue.add_repeat(DeviceGroup(device.name, number), self._clock.monotonic_ms(), *hold_ms)
        self._filled.set()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what is queued, while the service is connected, until cancelled."""
        while True:
            await self._is_connected.wait()
            self._filled.clear()
            self.send_next()
            wait_ms = self._queue.wait_ms(self._clock.monotonic_ms())
            if wait_ms is None:
                self._devices.clear()
                await self._filled.wait()
            else:
                await asyncio.sleep(min(max(wait_ms / 1000, TURN_S), _IDLE_TURN_S))

    def connected(self) -> None:
        """Send from now on: the service is connected."""
        self._is_connected.set()

    def disconnected(self) -> None:
        """Keep what is to be sent until the service is connected again."""
        self._is_connected.clear()

    def send_next(self) -> None:
        """Send the next messages, TURN_MESSAGES at most."""
        for name, number in self._queue.take(self._clock.monotonic_ms(), TURN_MESSAGES):
            self._metrics.counts["terms_told"] += 1
            self._sender.send(name, PTT_GROUP, self.term(self._devices[name], number))

    def term(self, device: Device, number: int) -> dict[str, Any]:
        """Return the fields of `ptt_group` for one group. The rights are 0 if the device is not a member."""
        membership = device.memberships.get(number)
        if membership is None:
            return {"group": number, **_NO_MEMBERSHIP, **self._endpoint}
        return {**self._values(membership), "wrapped": membership.group.key.wrap_for(device.key)}

    def _values(self, membership: Membership) -> dict[str, Any]:
        group, member = membership.group, membership.member
        return {
            "group": group.number,
            "kind": _KINDS[group.kind],
            "rights": _RIGHTS["listen"] | sum(_RIGHTS[right] for right in member.rights),
            "priority": member.max_priority,
            "rank": group.rank,
            "codec": _CODECS[group.codec],
            "ssrc": member.ssrc,
            "hub_ssrc": group.floor.hub_ssrc,
            "key": group.key.number,
            "name": group.name.encode(),
            **self._endpoint,
        }

    def _digest(self, membership: Membership) -> bytes:
        """Return the digest of the terms and the key. Of a membership, only the key ever changes."""
        key = membership.group.key
        if membership.terms_digest is None or membership.terms_digest[0] is not key:
            digest: bytes = group_report.terms_digest(self._values(membership), key.secret)
            membership.terms_digest = key, digest
        return membership.terms_digest[1]
