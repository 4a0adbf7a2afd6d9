"""Bursts as a listener gets them: packets in, in any order; whole bursts out."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from patrolink.audio.sound import RATE, Samples, behind, decode
from patrolink.hub.dispatch.client import Packet

_MOST = RATE * 3700  # the longest talk time that a site may set


@dataclass
class Burst:
    """One talk burst. Samples that have not come are silence."""

    group: int
    talker: str
    ssrc: int
    packets: dict[int, bytes] = field(default_factory=dict)  # by stamp

    def samples(self) -> Samples:
        """Return the voice from the first sample that came to the last."""
        any_one = next(iter(self.packets))
        places = {behind(stamp, any_one): alaw for stamp, alaw in self.packets.items()}
        first, last = min(places), max(at + len(alaw) for at, alaw in places.items())
        out = np.zeros(last - first, np.int16)
        for at, alaw in places.items():
            out[at - first : at - first + len(alaw)] = decode(alaw)
        return out

    def facts(self) -> dict[str, Any]:
        """Return what there is to say of it: duration_ms, lost_ms (gaps) and the rest, for JSON."""
        length, there = len(self.samples()), sum(map(len, self.packets.values()))
        return {
            "group": self.group,
            "talker": self.talker,
            "ssrc": self.ssrc,
            "duration_ms": length * 1000 // RATE,
            "lost_ms": (length - there) * 1000 // RATE,
            "packets": len(self.packets),
        }


class Ear:
    """Puts packets of several groups together. `talkers` says who speaks in a group."""

    def __init__(self) -> None:
        self.talkers: dict[int, str] = {}
        self._on: dict[int, Burst] = {}

    def take(self, packet: Packet) -> Burst | None:
        """Take a packet; return the burst before it in its group when that is over by this."""
        burst, over = self._on.get(packet.group), None
        if burst is None or burst.ssrc != packet.ssrc:
            over = burst
            talker = self.talkers.get(packet.group, "")
            burst = self._on[packet.group] = Burst(packet.group, talker, packet.ssrc)
        first = next(iter(burst.packets), packet.stamp)
        if abs(behind(packet.stamp, first)) < _MOST:
            burst.packets[packet.stamp] = packet.alaw
        return over

    def end(self, group: int) -> Burst | None:
        """Return the burst of a group that has ended, None when none was heard."""
        return self._on.pop(group, None)

    def ends(self) -> list[Burst]:
        """Return what was on."""
        bursts = list(self._on.values())
        self._on.clear()
        return bursts
