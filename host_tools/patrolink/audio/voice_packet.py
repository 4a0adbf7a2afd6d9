"""Format of voice between hub and dispatcher tools: G.711 A-law, 8000 samples per second, mono."""

from dataclasses import dataclass

SAMPLE_RATE_HZ = 8000
FRAME_SAMPLES = 160  # 20 ms, one byte each in A-law


@dataclass(frozen=True)
class VoicePacket:
    """A voice packet of a talk burst.

    Attributes:
        group: Number of the group.
        ssrc: SSRC of the burst.
        timestamp: RTP timestamp in samples, modulo 2**32.
        alaw: The samples.
    """

    group: int
    ssrc: int
    timestamp: int
    alaw: bytes


def timestamp_difference(timestamp: int, reference: int) -> int:
    """Return how many samples one RTP timestamp is after another; they wrap at 2**32."""
    return ((timestamp - reference + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
