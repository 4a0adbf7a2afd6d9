"""Bursts whose voice the relay forwards, with their reception statistics."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from patrolink_protocol import srtp

from patrolink.hub.voice.floor_types import Member
from patrolink.hub.voice.groups import Device, Group

_MAX_BURSTS = 8  # remembered per group, for packets that arrive after the burst


@dataclass(eq=False)
class RelayedBurst:
    """A burst as the relay receives it.

    Attributes:
        device: The talker: a device, or a dispatcher's session.
        stream: SRTP receive state of the SSRC.
        first_index: Packet index of the first packet received.
    """

    group: Group
    member: Member
    device: Device
    ssrc: int
    stream: srtp.SrtpStream = field(default_factory=srtp.SrtpStream)
    first_index: int = -1
    packets: int = 0

    @property
    def lost(self) -> int:
        """Packets sent and not received, judged by the highest index."""
        return max(0, self.stream.highest - self.first_index + 1 - self.packets) if self.packets else 0


class BurstCounts(NamedTuple):
    """Packets received and lost of the burst in progress."""

    packets: int
    lost: int


class BurstTable:
    """Finds a burst by the SSRC of a voice packet."""

    def __init__(self) -> None:
        self._bursts: dict[int, RelayedBurst] = {}
        self._ssrcs: dict[int, deque[int]] = {}  # by group, oldest first

    def add(self, burst: RelayedBurst) -> None:
        """Add a burst that was granted; the oldest one of its group is forgotten."""
        self._bursts[burst.ssrc] = burst
        ssrcs = self._ssrcs.setdefault(burst.group.number, deque())
        ssrcs.append(burst.ssrc)
        if len(ssrcs) > _MAX_BURSTS:
            self._bursts.pop(ssrcs.popleft(), None)

    def find(self, ssrc: int) -> RelayedBurst | None:
        """Return the burst of an SSRC, None if it was not granted recently."""
        return self._bursts.get(ssrc)

    def remove_group(self, number: int) -> None:
        """Forget the bursts of a group that has ended."""
        for ssrc in self._ssrcs.pop(number, ()):
            self._bursts.pop(ssrc, None)

    def remove_device(self, device: Device) -> None:
        """Forget the bursts of a device that may no longer talk."""
        for ssrc in [ssrc for ssrc, burst in self._bursts.items() if burst.device is device]:
            del self._bursts[ssrc]

    def counts(self, group: Group) -> BurstCounts:
        """Return the packet counts of the burst in progress in a group."""
        current = group.floor.burst
        burst = self._bursts.get(current.ssrc) if current else None
        return BurstCounts(burst.packets, burst.lost) if burst else BurstCounts(0, 0)
