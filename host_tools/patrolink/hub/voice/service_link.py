"""What the voice tells the service: messages for devices, and for dispatchers."""

from typing import Any

from patrolink.hub.channel.ends import Channel
from patrolink.hub.channel.messages import (
    BurstCounts,
    CloneSuspected,
    DeviceMessage,
    GroupKeyChanged,
    GroupState,
    Notice,
)
from patrolink.hub.infra.crypto import GroupKey


class ServiceLink:
    """The voice's way to the service. Without a connection, everything is dropped: the service gets the state later.

    Terms of groups that are dropped are sent when the device reports the groups and keys that it has.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def send(self, device: str, kind: int, values: dict[str, Any]) -> None:
        """Send a protocol message to a device through the broker."""
        self._channel.send(DeviceMessage(device, kind, values))

    def group_key_changed(self, group: int, key: GroupKey) -> None:
        """Inform dispatchers who have joined a group of its new key; see DispatcherLink."""
        self._channel.send(GroupKeyChanged(group, key.number, key.secret))

    def suspect_clone(self, device: str) -> None:
        """Warn dispatchers that packets of a device come from two senders."""
        self._channel.send(CloneSuspected(device))

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send a JSON-ready message to all dispatchers."""
        self._channel.send(Notice(message))

    def group_changed(self, row: dict[str, Any]) -> None:
        """Update the state of a group without a message to the dispatchers."""
        self._channel.send(GroupState(row))

    def count(self, rows: list[tuple[int, int, int]]) -> None:
        """Update the packets of the bursts in progress: group, packets and lost of each."""
        if rows:
            self._channel.send(BurstCounts(rows))
