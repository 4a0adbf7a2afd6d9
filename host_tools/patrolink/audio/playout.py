"""Playout buffer of `listen`: reorders voice packets and mixes groups."""

from typing import NamedTuple

import numpy as np

from patrolink.audio import alaw
from patrolink.audio.alaw import Samples
from patrolink.audio.voice_packet import SAMPLE_RATE_HZ, VoicePacket, timestamp_difference

_BUFFER_SAMPLES = 8 * SAMPLE_RATE_HZ
_DELAY_SAMPLES = SAMPLE_RATE_HZ * 160 // 1000  # covers the jitter of a 4G network


class _BurstPosition(NamedTuple):
    """Where a group's current burst is in the output."""

    ssrc: int
    first_timestamp: int
    start: int  # output position of first_timestamp, in samples


class PlayoutMixer:
    """Mixes the voice of several groups for a loudspeaker.

    Playout of a burst starts 160 ms after its first packet; packets that miss their position are dropped. Calls to
    `pull` are the only clock.
    """

    def __init__(self) -> None:
        self._buffer = np.zeros(_BUFFER_SAMPLES, np.int32)
        self._position = 0
        self._bursts: dict[int, _BurstPosition] = {}  # by group

    def push(self, packet: VoicePacket) -> None:
        """Add a packet. Packets may arrive in any order."""
        burst = self._bursts.get(packet.group)
        if burst is None or burst.ssrc != packet.ssrc:
            burst = _BurstPosition(packet.ssrc, packet.timestamp, self._position + _DELAY_SAMPLES)
            self._bursts[packet.group] = burst
        start = burst.start + timestamp_difference(packet.timestamp, burst.first_timestamp)
        samples = alaw.decode(packet.alaw)[max(0, self._position - start) :]
        start = max(start, self._position)
        if len(samples) and start + len(samples) - self._position <= _BUFFER_SAMPLES:
            self._buffer[np.arange(start, start + len(samples)) % _BUFFER_SAMPLES] += samples

    def pull(self, n: int) -> Samples:
        """Return the next `n` samples of the mix."""
        slots = np.arange(self._position, self._position + n) % _BUFFER_SAMPLES
        samples = np.clip(self._buffer[slots], -32768, 32767).astype(np.int16)
        self._buffer[slots] = 0
        self._position += n
        return samples
