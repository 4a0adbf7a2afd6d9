"""Sends devices the terms of their groups (`ptt_group`), and repeats them to devices that do not appear."""

from dataclasses import dataclass
from typing import Any, Protocol

from patrolink_messages import PTT_GROUP
from patrolink_names import BITS, NAMES

from patrolink.core.clock import Clock
from patrolink.hub.config import HubConfig
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.groups import Device

_REPEAT_MS = 60_000  # to a device that does not appear on the floor socket; doubled each time
_MAX_REPEAT_MS = 3_600_000
_MAX_REPEATS = 10
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


@dataclass
class _Announcement:
    sent_ms: int
    repeats: int


class GroupTerms:
    """Announces group memberships to devices.

    Args:
        hub: Where devices reach the hub's floor and media sockets.
    """

    def __init__(self, hub: HubConfig, sender: MessageSender, clock: Clock, metrics: Metrics) -> None:
        self._endpoint = {"floor_port": hub.floor_port, "media_port": hub.media_port, "host": hub.host.encode()}
        self._sender, self._clock, self._metrics = sender, clock, metrics
        self._announced: dict[str, _Announcement] = {}
        self._unconfirmed: set[str] = set()  # devices that were absent when terms were sent

    def frame_received(self, device: Device, is_hello: bool) -> None:
        """Announce all groups after a hello or the first frame, and repeat them while the device does not appear."""
        now_ms = self._clock.monotonic_ms()
        last = self._announced.get(device.name)
        repeats = 0
        if not is_hello and last is not None:
            wait_ms = min(_REPEAT_MS << last.repeats, _MAX_REPEAT_MS)
            if device.last_seen_ms is not None or now_ms - last.sent_ms < wait_ms:
                return
            repeats = min(last.repeats + 1, _MAX_REPEATS)
        self._announced[device.name] = _Announcement(now_ms, repeats)
        self._announce_all(device)

    def device_appeared(self, device: Device) -> None:
        """Announce all groups again, because announcements during the device's absence may be lost."""
        if device.name in self._unconfirmed:
            self._unconfirmed.discard(device.name)
            if device.name in self._announced:
                self._announce_all(device)

    def announce(self, device: Device, number: int) -> None:
        """Send a device the terms of one group that has changed."""
        if device.last_seen_ms is None:
            self._unconfirmed.add(device.name)
        self._metrics.counts["terms_told"] += 1
        self._sender.send(device.name, PTT_GROUP, self.term(device, number))

    def _announce_all(self, device: Device) -> None:
        for number in [*device.left_groups, *device.memberships]:
            self.announce(device, number)

    def term(self, device: Device, number: int) -> dict[str, Any]:
        """Return the fields of `ptt_group` for one group. The rights are 0 if the device is not a member."""
        membership = device.memberships.get(number)
        if membership is None:
            return {"group": number, **_NO_MEMBERSHIP, **self._endpoint}
        group, member = membership.group, membership.member
        return {
            "group": number,
            "kind": _KINDS[group.kind],
            "rights": _RIGHTS["listen"] | sum(_RIGHTS[right] for right in member.rights),
            "priority": member.max_priority,
            "rank": group.rank,
            "codec": _CODECS[group.codec],
            "ssrc": member.ssrc,
            "hub_ssrc": group.floor.hub_ssrc,
            "key": group.key.number,
            "wrapped": group.key.wrap_for(device.key),
            "name": group.name.encode(),
            **self._endpoint,
        }
