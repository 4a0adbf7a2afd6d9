"""Devices, talk groups and memberships as a hub holds them in memory."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from patrolink_protocol.srtp import SrtcpTransform, SrtpTransform

from patrolink.core.keys import DeviceKey
from patrolink.hub.infra import crypto
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import Member

Address = tuple[Any, ...]  # socket address

KEY_OVERLAP_MS = 10_000  # the previous group key remains valid this long (PTT.md)


@dataclass(eq=False)
class Device:
    """A device of the site.

    Attributes:
        name: Device id.
        mcptt_id: MCPTT ID, UTF-8.
        key: Device key in its current epoch.
        rtcp_index: SRTCP index of the next packet to the device. Owned by FloorSender.
        floor_address: Address of the device's floor socket; None until a packet arrived. Owned by DevicePresence.
        media_address: Address of the device's media socket; None until a packet arrived. Owned by DevicePresence.
        floor_index: SRTCP index of the packet that `floor_address` is from. Owned by DevicePresence.
        media_index: The same for `media_address`.
        last_seen_ms: When the last authenticated SRTCP packet arrived; None: absent. Owned by DevicePresence.
        memberships: By group number.
        is_dispatcher: True for a dispatcher's session, which takes part like a device, under a key of its own. All
            dispatchers receive voice at one address.
    """

    name: str
    mcptt_id: bytes
    key: DeviceKey
    rtcp_index: int
    floor_address: Address | None = None
    media_address: Address | None = None
    floor_index: int = -1
    media_index: int = -1
    last_seen_ms: int | None = None
    memberships: dict[int, "Membership"] = field(default_factory=dict)
    is_dispatcher: bool = False

    @cached_property
    def uplink_srtcp(self) -> SrtcpTransform:
        """SRTCP context of packets from the device."""
        return crypto.srtcp_context(self.key, b"patrolink-ptt-up")

    @cached_property
    def downlink_srtcp(self) -> SrtcpTransform:
        """SRTCP context of packets to the device."""
        return crypto.srtcp_context(self.key, b"patrolink-ptt-down")

    def rekey(self, epoch: int) -> None:
        """Switch to the next key epoch of the device."""
        self.key = self.key._replace(epoch=epoch)
        self.floor_index = self.media_index = -1
        self.__dict__.pop("uplink_srtcp", None)
        self.__dict__.pop("downlink_srtcp", None)


@dataclass(eq=False)
class Membership:
    """A device's membership in a group.

    Attributes:
        terms_digest: Digest of the terms with a key, as devices report it; None: not computed yet. Owned by GroupTerms.
    """

    device: Device
    group: "Group"
    member: Member
    terms_digest: tuple[GroupKey, bytes] | None = None


class RetiredKey(NamedTuple):
    """The group key before the current one, valid until `until_ms`."""

    key: GroupKey
    srtp: SrtpTransform
    until_ms: int


class Group:
    """A talk group: floor, key, memberships, and the addresses that its voice goes to.

    Args:
        number: Group number, unique in the site.
        kind: "group" (from the site file), "dynamic" or "private".
        codec: "pcma" or "opus".
        rank: Rank among the groups of a device; a higher one is heard first.

    Attributes:
        memberships: Devices, by name.
        members_version: Increases with each change of `memberships`. Owned by GroupRegistry.
        dispatchers: Dispatchers who have joined, by SSRC.
        media_targets: Media addresses of the members that are present, each once.
        retired_key: The previous key while it may still be in use.
    """

    def __init__(self, number: int, name: str, kind: str, codec: str, rank: int, floor: Floor, key: GroupKey) -> None:
        self.number, self.name, self.kind, self.codec, self.rank = number, name, kind, codec, rank
        self.floor = floor
        self.memberships: dict[str, Membership] = {}
        self.members_version = 0
        self.dispatchers: dict[int, Membership] = {}
        self.media_targets: list[Address] = []
        self.retired_key: RetiredKey | None = None
        self.key = key
        self._srtp: SrtpTransform | None = None

    @property
    def srtp(self) -> SrtpTransform:
        """SRTP context of the current key. Created when it is first used: most private groups never are."""
        if self._srtp is None:
            self._srtp = self.key.srtp_context()
        return self._srtp

    def replace_key(self, key: GroupKey, now_ms: int) -> None:
        """Use another key, because a former member knows the current one or SSRCs are about to repeat.

        The previous key remains valid for KEY_OVERLAP_MS.
        """
        self.retired_key = RetiredKey(self.key, self.srtp, now_ms + KEY_OVERLAP_MS)
        self.key = key
        self._srtp = None

    def replace_key_at_once(self, key: GroupKey) -> None:
        """Use another key without an overlap, because a barred device knows the current one."""
        self.key, self._srtp, self.retired_key = key, None, None

    def context_of(self, key: GroupKey) -> SrtpTransform:
        """Return the SRTP context of the current key or of the previous one."""
        retired = self.retired_key
        return self.srtp if key is self.key or retired is None else retired.srtp

    def update_targets(self) -> None:
        """Recompute `media_targets` after a member appeared, disappeared or changed its address."""
        addresses = (
            membership.device.media_address
            for membership in (*self.memberships.values(), *self.dispatchers.values())
            if membership.member.present
        )
        self.media_targets = list(dict.fromkeys(address for address in addresses if address is not None))
