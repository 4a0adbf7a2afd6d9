"""Measure a 60 ms frame of voice: A-law, RTP and SRTP, in the RTP sender and the jitter buffer.

bench_voice.py runs it. Prints one line of JSON: ticks and allocated bytes per frame. A tick is a microsecond; on the
emulated board it is a cycle.
"""

import gc
import json
import struct
import time

from agent.audio import samples
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.rtp_sender import RtpSender
from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter

FRAME_MS = 60
ROUNDS = 50
KEY, SALT = bytes(range(16)), bytes(range(14))


class Microphone:
    """A microphone that provides one unit per read, `left` times."""

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
    import board  # noqa: F401 - present on the emulated board only

    ticks = time.ticks_cpu
except ImportError:
    ticks = time.ticks_us


def measure(function):
    """Return (median ticks, mean allocated bytes) of a call without garbage collection."""
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
    outbound, inbound = srtp.SrtpTransform(encrypter, KEY, SALT, 512), srtp.SrtpTransform(encrypter, KEY, SALT, 512)
    sender.open()
    sender.start_burst(5, 100)
    jitter_buffer, stream = JitterBuffer(bytearray(RING)), srtp.SrtpStream()
    jitter_buffer.start_burst()
    received = [0]

    def send():
        mic.left = FRAME_MS // 10
        sender.capture()
        if not sender.next_packet():
            raise AssertionError("no packet")
        sender.packet_view(outbound.protect(sender.packet, sender.n, 0))

    def receive():
        received[0] += 1
        packet = sender.packet
        n = inbound.open(packet, sender.n + srtp.TAG_BYTES, stream)
        jitter_buffer.put(received[0], received[0] * 480, packet, 12, n - 12, received[0] * FRAME_MS)
        for i in range(6):
            jitter_buffer.next_unit(received[0] * FRAME_MS + 10 * i)

    def send_and_receive():
        send()
        receive()

    sent = measure(send)
    sender.start_burst(6, 100)
    stream.reset()
    sent_and_received = measure(send_and_receive)
    return {"speak": sent, "speak and hear": sent_and_received}


print(json.dumps(main()))
