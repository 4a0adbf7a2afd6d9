"""What a dispatcher's session gets to know about a group that it has joined, and how it learns of changes."""

from dataclasses import dataclass
from typing import Protocol

from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.voice.group_terms import GroupTerms
from patrolink.hub.voice.groups import Device


@dataclass(frozen=True)
class DispatcherTerms:
    """Terms of a dispatcher's membership in a group.

    Attributes:
        ssrc: SSRC of the dispatcher's floor messages in the group.
        hub_ssrc: SSRC of the floor control server in the group.
        mcptt_id: The dispatcher's MCPTT ID, UTF-8.
        session_key: Device key of the session, from which the SRTCP keys are derived.
        group_key: Key that protects the group's voice.
    """

    ssrc: int
    hub_ssrc: int
    mcptt_id: bytes
    session_key: bytes
    group_key: GroupKey


class DispatcherLink(Protocol):
    """Informs the dispatchers who have joined a group."""

    def group_key_changed(self, group: int, key: GroupKey) -> None:
        """Use another key for a group's voice from now on."""


class MembershipAnnouncer:
    """Announces changed terms: to devices through the broker, to dispatchers through their link."""

    def __init__(self, terms: GroupTerms, dispatchers: DispatcherLink) -> None:
        self._terms, self._dispatchers = terms, dispatchers

    def announce(self, device: Device, number: int) -> None:
        """Inform a device or a dispatcher's session of the terms of a group."""
        if device.is_dispatcher:
            self._dispatchers.group_key_changed(number, device.memberships[number].group.key)
        else:
            self._terms.announce(device, number)
