"""Opus (RFC 6716, RFC 7587) through PyAV, for CPython. Its input and output are A-law at 8000 Hz."""

import av
from patrolink_protocol import g711

PAYLOAD_TYPE = 111  # of RTP
_RTP_CLOCK_HZ = 48000  # also the rate that libopus decodes to
_BIT_RATE = 16000


class Opus:
    """A voice encoder and decoder.

    Args:
        frame_ms: Milliseconds of voice in an encoded packet: 20 or 60. Packets of any length are decoded.
    """

    TYPE = PAYLOAD_TYPE
    clock = _RTP_CLOCK_HZ

    def __init__(self, frame_ms):
        encoder = av.CodecContext.create("libopus", "w")
        encoder.sample_rate, encoder.format, encoder.layout, encoder.bit_rate = 8000, "s16", "mono", _BIT_RATE
        encoder.options = {"frame_duration": str(frame_ms), "application": "voip"}
        self._encoder = encoder
        self._frame = av.AudioFrame(format="s16", layout="mono", samples=8 * frame_ms)
        self._frame.sample_rate = 8000
        self._reset_decoder()
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
        self._surplus = b""  # resampled samples that belong to the next packet

    def _reset_decoder(self):
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
        """Return the A-law of a packet; empty when the packet cannot be decoded."""
        try:
            frames = self._decoder.decode(av.Packet(packet))
        except av.FFmpegError:
            self._reset_decoder()  # its state is not defined after an error
            return b""
        pcm = self._surplus
        count = 0
        for frame in frames:
            count += frame.samples * 8000 // _RTP_CLOCK_HZ
            for resampled in self._resampler.resample(frame):
                pcm += bytes(resampled.planes[0])[: 2 * resampled.samples]
        if len(pcm) < 2 * count:  # the delay of the resampler, in the first packet
            pcm = bytes(2 * count - len(pcm)) + pcm
        self._surplus = pcm[2 * count :]
        if not count:
            return b""
        out = bytearray(count)
        g711.encode(pcm, count, out, 0)
        return out
