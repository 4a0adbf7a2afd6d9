"""Opus (RFC 6716, RFC 7587) through PyAV, which belongs to CPython. Voice comes and goes as A-law at 8000 Hz."""

import av
from patrolink_protocol import g711

TYPE = 111  # RTP payload type
_RATE = 48000  # what libopus decodes to, and RTP's clock
_BIT_RATE = 16000


class Opus:
    """
    frame_ms  20 or 60, of voice in a packet that is encoded; any is decoded
    """

    TYPE = TYPE
    clock = _RATE

    def __init__(self, frame_ms):
        encoder = av.CodecContext.create("libopus", "w")
        encoder.sample_rate, encoder.format, encoder.layout, encoder.bit_rate = 8000, "s16", "mono", _BIT_RATE
        encoder.options = {"frame_duration": str(frame_ms), "application": "voip"}
        self._encoder = encoder
        self._frame = av.AudioFrame(format="s16", layout="mono", samples=8 * frame_ms)
        self._frame.sample_rate = 8000
        self._begin()
        self._slower = av.AudioResampler(format="s16", layout="mono", rate=8000)
        self._left = b""  # samples that the resampler has given, and no packet yet

    def _begin(self):
        self._decoder = av.CodecContext.create("libopus", "r")
        self._decoder.layout = "mono"

    def encode(self, alaw):
        """Return the packet of one frame of A-law."""
        pcm = bytearray(2 * len(alaw))
        g711.decode(alaw, 0, len(alaw), pcm, 0)
        self._frame.planes[0].update(pcm)
        self._frame.pts = None
        return b"".join([bytes(packet) for packet in self._encoder.encode(self._frame)])

    def decode(self, packet):
        """Return a packet's voice as A-law, empty when it is none."""
        try:
            frames = self._decoder.decode(av.Packet(packet))
        except av.FFmpegError:
            self._begin()  # the old one may be in disorder
            return b""
        pcm = self._left
        samples = 0
        for frame in frames:
            samples += frame.samples * 8000 // _RATE
            for slow in self._slower.resample(frame):
                pcm += bytes(slow.planes[0])[: 2 * slow.samples]
        if len(pcm) < 2 * samples:  # the resampler's delay, once
            pcm = bytes(2 * samples - len(pcm)) + pcm
        self._left = pcm[2 * samples :]
        if not samples:
            return b""
        out = bytearray(samples)
        g711.encode(pcm, samples, out, 0)
        return out
