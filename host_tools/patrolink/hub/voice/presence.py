"""Tracks at which addresses devices are reachable and which devices are present, across restarts of the hub."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from patrolink.core.clock import Clock
from patrolink.hub.infra import persistence
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.clone_detector import CloneDetector
from patrolink.hub.voice.groups import Address, Device, Group

ABSENT_MS = 60_000  # without an authenticated SRTCP packet a device is absent: four keepalives


class DevicePresence:
    """Owner of the devices' addresses and of the presence of group members.

    Args:
        devices: All devices of the site, by name.
        dispatchers: Sessions of dispatchers, by number.
        path: File that keeps the addresses.
        on_change: Called with a group when the presence of a member has changed.
        on_clone: Called with the name of a device that has a double.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        dispatchers: Mapping[int, Device],
        path: Path,
        on_change: Callable[[Group], None],
        on_clone: Callable[[str], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._devices, self._dispatchers, self._path = devices, dispatchers, path
        self._on_change, self._on_clone, self._clock, self._metrics = on_change, on_clone, clock, metrics
        self._detector = CloneDetector()
        self._by_media_address: dict[Address, Device] = {}
        self._load()

    def start(self) -> None:
        """Consider every device present whose address is known from before the restart."""
        now_ms = self._clock.monotonic_ms()
        known = [device for device in self._devices.values() if device.floor_address is not None]
        for device in known:
            device.last_seen_ms = now_ms
            if device.media_address is not None:
                self._by_media_address[device.media_address] = device
        self._update(known)

    def device_at(self, media_address: Address) -> Device | None:
        """Return the device that sends media from an address."""
        return self._by_media_address.get(media_address)

    def packet_received(self, device: Device, source: Address, is_media: bool, index: int) -> bool:
        """Record the source of an authenticated SRTCP packet on the media or the floor socket.

        The address of the newest packet counts: a packet that was overtaken does not bring an old address back.

        Returns:
            True if the device has to be sent the state of its groups' floors.
        """
        appeared = device.last_seen_ms is None
        device.last_seen_ms = self._clock.monotonic_ms()
        if index < (device.media_index if is_media else device.floor_index):
            self.stale_packet(device, source)
            return False
        has_moved = source != (device.media_address if is_media else device.floor_address)
        if is_media:
            device.media_index = index
        else:
            device.floor_index = index
        if not has_moved and not appeared:
            return False
        self._watch_address(device, source, is_media)
        if is_media:
            if device.media_address is not None:
                self._by_media_address.pop(device.media_address, None)
            self._by_media_address[source] = device
            device.media_address = source
        else:
            device.floor_address = source
        self._update([device])
        return device.floor_address is not None and (appeared or not is_media)

    def stale_packet(self, device: Device, source: Address) -> None:
        """Process an authentic packet that was refused because its index is old."""
        if source not in (device.floor_address, device.media_address) and not device.is_dispatcher:
            self._metrics.counts["clone_signs"] += 1
            if self._detector.stale_packet(device.name, self._clock.monotonic_ms()):
                self._on_clone(device.name)

    def _watch_address(self, device: Device, source: Address, is_media: bool) -> None:
        """Inform the detector of another address of a device."""
        previous = device.media_address if is_media else device.floor_address
        if previous is not None and previous != source and not device.is_dispatcher:
            now_ms = self._clock.monotonic_ms()
            if self._detector.moved(device.name, (is_media, previous), (is_media, source), now_ms):
                self._on_clone(device.name)

    def dispatcher_joined(self, session: Device, media_address: Address) -> None:
        """Set where a dispatcher's session receives voice. Its next keepalive brings it the state of its floors."""
        session.media_address = media_address
        session.last_seen_ms = None

    def expire(self, portion: int = 0, portions: int = 1) -> None:
        """Mark devices absent that were not seen for ABSENT_MS: all, or one of so many portions of them."""
        now_ms = self._clock.monotonic_ms()
        absent = [
            device
            for device in (*self._devices.values(), *self._dispatchers.values())[portion::portions]
            if device.last_seen_ms is not None and now_ms - device.last_seen_ms > ABSENT_MS
        ]
        for device in absent:
            device.last_seen_ms = None
            self._metrics.counts["devices_gone"] += 1
        self._update(absent)

    def forget(self, device: Device) -> None:
        """Forget the addresses of a device and mark it absent."""
        if device.media_address is not None:
            self._by_media_address.pop(device.media_address, None)
        device.floor_address = device.media_address = device.last_seen_ms = None
        self._update([device])

    def members_added(self, group: Group) -> None:
        """Set the presence of the members of a group that was made or has new members."""
        for membership in group.memberships.values():
            membership.member.present = _is_present(membership.device)
        group.update_targets()
        self._on_change(group)

    def _update(self, devices: Iterable[Device]) -> None:
        """Set the presence of devices in their groups, and compute the targets of each group once."""
        groups: dict[int, Group] = {}
        for device in devices:
            for number, membership in device.memberships.items():
                membership.member.present = _is_present(device)
                groups[number] = membership.group
        for group in groups.values():
            group.update_targets()
            self._on_change(group)

    # --- storage ------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        for name, (floor_address, media_address, highest_index) in (persistence.load_json(self._path) or {}).items():
            device = self._devices.get(name)
            if device is not None:
                device.floor_address = floor_address and tuple(floor_address)
                device.media_address = media_address and tuple(media_address)
                device.uplink_srtcp.replay_list.reject_up_to(highest_index)

    def snapshot(self) -> dict[str, Any]:
        """Return the addresses and replay windows of all devices as a JSON document."""
        return {
            device.name: [device.floor_address, device.media_address, device.uplink_srtcp.replay_list.highest]
            for device in self._devices.values()
            if device.floor_address is not None or device.media_address is not None
        }

    def save(self, snapshot: dict[str, Any]) -> None:
        """Write a snapshot to storage. May be called in a thread.

        Raises:
            OSError: Storage failed.
        """
        persistence.save_json(self._path, snapshot)


def _is_present(device: Device) -> bool:
    return device.floor_address is not None and device.last_seen_ms is not None
