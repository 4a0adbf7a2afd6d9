"""Counts what a 60 ms frame of voice costs: A-law, RTP, SRTP, as the talker does it; bench_voice.py runs it.

Prints one line of JSON: ticks and bytes allocated a frame. A tick is a microsecond, on the emulated board a cycle.
"""

import gc
import json
import struct
import time

from agent.audio import samples
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.rtp_sender import RtpSender
from compat.aes import encrypter
from patrolink_protocol import srtp

FRAME_MS = 60
ROUNDS = 50
KEY, SALT = bytes(range(16)), bytes(range(14))


class Microphone:
    """A unit at a time, as long as `left` says."""

    def __init__(self):
        self.buf = bytearray(b"".join([struct.pack("<h", (i * 7919 & 0x3FFF) - 8192) for i in range(samples.UNIT)]))
        self.left = 0

    def open(self):
        return True

    def close(self):
        pass

    def read(self):
        if not self.left:
            return 0
        self.left -= 1
        return len(self.buf)


try:
    import board  # noqa: F401 - the emulated one

    ticks = time.ticks_cpu
except ImportError:
    ticks = time.ticks_us


def measured(function):
    """Return (ticks, bytes) of one call, the middle one of many, in which nothing is collected."""
    function()
    spans = []
    allocated = 0
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        heap = gc.mem_alloc()
        start = ticks()
        function()
        span = time.ticks_diff(ticks(), start)
        allocated += gc.mem_alloc() - heap
        gc.enable()
        spans.append(span)
    return sorted(spans)[ROUNDS // 2], allocated // ROUNDS


def main():
    mic = Microphone()
    sender = RtpSender(mic, FRAME_MS, bytearray(RING))
    out, inward = srtp.SrtpTransform(encrypter, KEY, SALT, 512), srtp.SrtpTransform(encrypter, KEY, SALT, 512)
    sender.open()
    sender.start_burst(5, 100)
    jitter_buffer, stream = JitterBuffer(bytearray(RING)), srtp.SrtpStream()
    jitter_buffer.start_burst()
    number = [0]

    def speak():
        mic.left = FRAME_MS // 10
        sender.capture()
        if not sender.next_packet():
            raise AssertionError("no packet")
        sender.packet_view(out.protect(sender.packet, sender.n, 0))

    def hear():
        number[0] += 1
        packet = sender.packet
        n = inward.open(packet, sender.n + srtp.TAG_BYTES, stream)
        jitter_buffer.put(number[0], number[0] * 480, packet, 12, n - 12, number[0] * FRAME_MS)
        for i in range(6):
            jitter_buffer.next_unit(number[0] * FRAME_MS + 10 * i)

    def both():
        speak()
        hear()

    spoken = measured(speak)
    sender.start_burst(6, 100)
    stream.reset()
    told = measured(both)
    return {"speak": spoken, "speak and hear": told}


print(json.dumps(main()))
