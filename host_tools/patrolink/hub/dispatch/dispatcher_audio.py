"""Decrypts the voice of groups for dispatchers who listen, and transcodes it to A-law."""

from typing import Any

from patrolink_protocol import srtp

from patrolink.hub.dispatch.messages import VoiceFrame
from patrolink.hub.dispatch.ports import VoiceListener
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.voice.bursts import RelayedBurst
from patrolink.hub.voice.recording_writer import OPUS, PCMA

_RATE = 8000
_OPUS_RATE = 48_000
_MAX_BURSTS = 64  # whose decoders are kept


class _OpusDecoder:
    """Decoder of one burst: Opus to A-law."""

    def __init__(self) -> None:
        import av  # heavy, and only needed for Opus

        self._av = av
        self._decoder = av.CodecContext.create("opus", "r")
        self._decoder.sample_rate = _OPUS_RATE
        self._decoder.layout = "mono"
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)
        self._encoder: Any = av.CodecContext.create("pcm_alaw", "w")
        self._encoder.sample_rate, self._encoder.layout, self._encoder.format = _RATE, "mono", "s16"

    def decode(self, packet: bytes) -> bytes:
        """Return the A-law samples of a packet; empty if it is damaged."""
        try:
            frames = self._decoder.decode(self._av.Packet(packet))
        except self._av.FFmpegError:
            return b""
        encoded = [self._encoder.encode(part) for frame in frames for part in self._resampler.resample(frame)]
        return b"".join(bytes(packet) for packets in encoded for packet in packets)


class DispatcherAudio:
    """Delivers voice to dispatchers. A voice sink of the relay."""

    def __init__(self) -> None:
        self._listeners: dict[int, list[VoiceListener]] = {}  # by group
        self._decoders: dict[int, _OpusDecoder] = {}
        self._bursts: dict[int, None] = {}  # SSRCs, the most recent one last

    def add(self, group: int, listener: VoiceListener) -> None:
        """Deliver a group's voice to a listener from now on."""
        self._listeners.setdefault(group, []).append(listener)

    def remove(self, group: int, listener: VoiceListener) -> None:
        """Stop delivering a group's voice to a listener."""
        listeners = self._listeners[group]
        listeners.remove(listener)
        if not listeners:
            del self._listeners[group]

    def voice_packet(
        self, burst: RelayedBurst, index: int, key: GroupKey, packet: bytes | memoryview, arrival_ns: int
    ) -> None:
        """Deliver a packet to the listeners of its group, except the one who talks; see VoiceSink."""
        group = burst.group
        listeners = self._listeners.get(group.number)
        if not listeners:
            return
        buf = bytearray(packet)
        n = group.context_of(key).decrypt(buf, len(buf), index)
        payload = bytes(buf[srtp.payload_offset(buf, n) : n])
        payload_type = buf[1] & 0x7F
        timestamp = int.from_bytes(buf[4:8], "big")
        if payload_type == OPUS:
            payload, timestamp = self._decoder(burst.ssrc).decode(payload), timestamp // (_OPUS_RATE // _RATE)
        elif payload_type != PCMA:
            return
        first = burst.ssrc not in self._bursts
        self._touch(burst.ssrc)
        if payload:
            frame = VoiceFrame(group.number, burst.member.name, burst.ssrc, first, timestamp, payload)
            for listener in listeners:
                if not listener.holds(group.number, burst.ssrc):
                    listener.put_voice(frame)

    def _decoder(self, ssrc: int) -> _OpusDecoder:
        decoder = self._decoders.get(ssrc)
        if decoder is None:
            decoder = self._decoders[ssrc] = _OpusDecoder()
        return decoder

    def _touch(self, ssrc: int) -> None:
        """Mark a burst as the most recent one, and forget the oldest if there are too many."""
        self._bursts.pop(ssrc, None)
        self._bursts[ssrc] = None
        if len(self._bursts) > _MAX_BURSTS:
            oldest = next(iter(self._bursts))
            del self._bursts[oldest]
            self._decoders.pop(oldest, None)
