"""What dispatchers hear: voice of a group opened and as A-law, whatever its codec."""

from typing import Any

from patrolink_protocol import srtp

from patrolink.hub.dispatch.messages import VoiceFrame
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.voice.recording_writer import OPUS, PCMA
from patrolink.hub.voice.relay import Voice as Burst

_RATE = 8000
_MOST_DECODERS = 64


class _Opus:
    """One burst's decoder: Opus to A-law."""

    def __init__(self) -> None:
        import av

        self._av = av
        self._decoder = av.CodecContext.create("opus", "r")
        self._decoder.sample_rate = 48_000
        self._decoder.layout = "mono"
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)
        self._encoder: Any = av.CodecContext.create("pcm_alaw", "w")
        self._encoder.sample_rate, self._encoder.layout, self._encoder.format = _RATE, "mono", "s16"

    def alaw(self, packet: bytes) -> bytes:
        """Return the samples of a packet; empty when it is damaged."""
        try:
            frames = self._decoder.decode(self._av.Packet(packet))
        except self._av.FFmpegError:
            return b""
        out = [self._encoder.encode(part) for frame in frames for part in self._resampler.resample(frame)]
        return b"".join(bytes(packet) for packets in out for packet in packets)


class DispatcherAudio:
    """Opens what desks hear."""

    def __init__(self) -> None:
        self._decoders: dict[int, _Opus] = {}
        self._seen: dict[int, None] = {}  # bursts, the newest last

    def take(self, burst: Burst, talker: str, index: int, key: GroupKey, packet: bytes | memoryview) -> None:
        """Hand a voice packet to the desks of its group, but not to the one that speaks."""
        group = burst.group
        before = group.before
        context = group.rtp if key is group.key or before is None else before[0]
        buf = bytearray(packet)
        n = context.decrypt(buf, len(buf), index)
        payload = bytes(buf[srtp.payload_offset(buf, n) : n])
        kind = buf[1] & 0x7F
        stamp = int.from_bytes(buf[4:8], "big")
        if kind == OPUS:
            payload, stamp = self._decoder(burst.ssrc).alaw(payload), stamp // 6
        elif kind != PCMA:
            return
        first = burst.ssrc not in self._seen
        self._remember(burst.ssrc)
        if payload:
            voice = VoiceFrame(group.number, talker, burst.ssrc, first, stamp, payload)
            for desk in group.desks:
                if not desk.holds(group.number, burst.ssrc):
                    desk.put(voice)

    def _decoder(self, ssrc: int) -> _Opus:
        found = self._decoders.get(ssrc)
        if found is None:
            found = self._decoders[ssrc] = _Opus()
        return found

    def _remember(self, ssrc: int) -> None:
        self._seen.pop(ssrc, None)
        self._seen[ssrc] = None
        if len(self._seen) > _MOST_DECODERS:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            self._decoders.pop(oldest, None)
