"""Transcodes Opus to A-law for dispatchers."""

from typing import Any

ALAW_RATE = 8000
OPUS_RATE = 48_000


class OpusDecoder:
    """Decoder of one burst: Opus to A-law."""

    def __init__(self) -> None:
        import av  # heavy, and only needed for Opus

        self._av = av
        self._decoder = av.CodecContext.create("opus", "r")
        self._decoder.sample_rate = OPUS_RATE
        self._decoder.layout = "mono"
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=ALAW_RATE)
        self._encoder: Any = av.CodecContext.create("pcm_alaw", "w")
        self._encoder.sample_rate, self._encoder.layout, self._encoder.format = ALAW_RATE, "mono", "s16"

    def decode(self, packet: bytes) -> bytes:
        """Return the A-law samples of a packet; empty if it is damaged."""
        try:
            frames = self._decoder.decode(self._av.Packet(packet))
        except self._av.FFmpegError:
            return b""
        encoded = [self._encoder.encode(part) for frame in frames for part in self._resampler.resample(frame)]
        return b"".join(bytes(packet) for packets in encoded for packet in packets)
