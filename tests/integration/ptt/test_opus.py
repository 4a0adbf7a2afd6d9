"""Opus on boards that run CPython: voice from the RTP sender to the jitter buffer, and invalid packets."""

import numpy as np
import pytest
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.playback import Playback
from agent.ptt.receive_arbiter import ReceiveArbiter
from agent.ptt.rtp_sender import RtpSender
from hal.posix.opus import Opus
from patrolink_protocol import g711

RATE = 8000


class AudioDevice:
    """Microphone that provides `pcm`, and speaker that appends to `played`."""

    def __init__(self, pcm: bytes) -> None:
        self.buf, self.pcm, self.played = bytearray(160), pcm, b""

    def open(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def read(self) -> int:
        part, self.pcm = self.pcm[:160], self.pcm[160:]
        self.buf[: len(part)] = part
        return len(part)

    def write(self, pcm: bytes) -> None:
        self.played += bytes(pcm)


@pytest.mark.parametrize("frame_ms", [20, 60])
def test_played_voice_correlates_with_the_spoken_voice(frame_ms):
    rng = np.random.default_rng(6716)
    smooth = np.convolve(rng.normal(0, 1, 2 * RATE), np.hanning(9), "same")
    spoken = (smooth / np.abs(smooth).max() * 12000).astype("<i2")
    audio = AudioDevice(spoken.tobytes())
    encoder, decoder = Opus(frame_ms), Opus(20)
    sender = RtpSender(audio, frame_ms, bytearray(RING))
    jitter_buffer = JitterBuffer(bytearray(RING))
    playback = Playback(audio, jitter_buffer, 0)
    receive_arbiter = ReceiveArbiter(jitter_buffer, playback, {111: decoder}, lambda values, ms: None)
    sender.open()
    sender.start_burst(7, 9, encoder)
    jitter_buffer.start_burst()
    sizes, now_ms = [], 0
    while now_ms < 2600:
        rest = audio.pcm[frame_ms * 16 :]
        audio.pcm = audio.pcm[: frame_ms * 16]
        sender.capture()
        audio.pcm = rest
        if sender.next_packet():
            assert sender.packet[1] & 0x7F == 111
            sizes.append(sender.n - 12)
            receive_arbiter.receive(sender.packet, sender.n, now_ms)
        for _ in range(frame_ms // 10):
            playback.serve(now_ms)
            now_ms += 10
    assert len(sizes) == 2000 // frame_ms and sum(sizes) * 8 / 2 < 20000  # bit/s
    played = np.frombuffer(audio.played, "<i2").astype(float)
    part = spoken[4000:8000].astype(float)
    products = np.correlate(played, part)
    peak = int(np.argmax(products))
    match = played[peak : peak + 4000]
    assert products[peak] / np.sqrt(np.dot(match, match) * np.dot(part, part)) > 0.8


def test_invalid_packets_decode_to_whole_frames():
    codec = Opus(20)
    packet = codec.encode(bytes([g711.SILENCE]) * 160)
    assert len(codec.decode(packet)) == 160
    rng = np.random.default_rng(7587)
    for n in range(60):
        out = codec.decode(rng.bytes(n))
        assert len(out) % 20 == 0  # the shortest Opus frame is 2.5 ms
    assert len(codec.decode(packet)) == 160
