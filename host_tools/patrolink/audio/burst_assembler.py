"""Assembles the talk bursts of several groups from voice packets that may be lost or reordered."""

from typing import Any

import numpy as np

from patrolink.audio import alaw
from patrolink.audio.alaw import Samples
from patrolink.audio.voice_packet import SAMPLE_RATE_HZ, VoicePacket, timestamp_difference

_MAX_BURST_SAMPLES = SAMPLE_RATE_HZ * 3700  # above the longest talk time that a site can configure


class TalkBurst:
    """One talk burst, with silence in place of lost packets.

    Args:
        group: Number of the group.
        talker: Device or dispatcher that talks.
        ssrc: SSRC of the burst.
    """

    def __init__(self, group: int, talker: str, ssrc: int) -> None:
        self.group, self.talker, self.ssrc = group, talker, ssrc
        self._packets: dict[int, bytes] = {}  # A-law by timestamp

    def add(self, packet: VoicePacket) -> None:
        """Add a packet; one that is too far from the others is ignored."""
        reference = next(iter(self._packets), packet.timestamp)
        if abs(timestamp_difference(packet.timestamp, reference)) < _MAX_BURST_SAMPLES:
            self._packets[packet.timestamp] = packet.alaw

    def samples(self) -> Samples:
        """Return the voice from the first received sample to the last."""
        reference = next(iter(self._packets))
        offsets = {timestamp_difference(timestamp, reference): data for timestamp, data in self._packets.items()}
        first, end = min(offsets), max(offset + len(data) for offset, data in offsets.items())
        samples = np.zeros(end - first, np.int16)
        for offset, data in offsets.items():
            samples[offset - first : offset - first + len(data)] = alaw.decode(data)
        return samples

    def summary(self) -> dict[str, Any]:
        """Return JSON-ready data: group, talker, ssrc, duration_s, lost_s (gaps) and packets."""
        length, received = len(self.samples()), sum(map(len, self._packets.values()))
        return {
            "group": self.group,
            "talker": self.talker,
            "ssrc": self.ssrc,
            "duration_s": round(length / SAMPLE_RATE_HZ, 3),
            "lost_s": round((length - received) / SAMPLE_RATE_HZ, 3),
            "packets": len(self._packets),
        }


class BurstAssembler:
    """Sorts voice packets into bursts, one at a time per group."""

    def __init__(self) -> None:
        self._talkers: dict[int, str] = {}  # by group
        self._bursts: dict[int, TalkBurst] = {}  # by group

    def set_talker(self, group: int, talker: str) -> None:
        """Set who talks in a group; the next burst of the group gets the name."""
        self._talkers[group] = talker

    def push(self, packet: VoicePacket) -> TalkBurst | None:
        """Add a packet. If it starts a burst, return the group's previous burst, which is complete."""
        burst, completed = self._bursts.get(packet.group), None
        if burst is None or burst.ssrc != packet.ssrc:
            completed = burst
            burst = TalkBurst(packet.group, self._talkers.get(packet.group, ""), packet.ssrc)
            self._bursts[packet.group] = burst
        burst.add(packet)
        return completed

    def end(self, group: int) -> TalkBurst | None:
        """End the current burst of a group and return it, or None if nothing was received."""
        return self._bursts.pop(group, None)

    def end_all(self) -> list[TalkBurst]:
        """End the current bursts of all groups and return them."""
        bursts = list(self._bursts.values())
        self._bursts.clear()
        return bursts
