"""From the microphone to packets: what was said before the grant is kept, and goes out after it."""

from agent.audio import samples
from patrolink_protocol import g711
from patrolink_protocol.native import const

RING = const(9600)  # samples that are kept: a multiple of every packet's
_PREROLL = const(8000)
_LEAD = const(320)  # samples kept before the first that is not silence
_QUIET = const(150)  # mean magnitude of a unit that is silence, about -47 dB of full scale
_READS = const(100)  # of 10 ms in one go
_HEADER = const(12)
_MARKER = const(0x80)


class Talker:
    """
    mic       hal Microphone: open() -> bool, close(), read() -> bytes that are new in `buf`
    frame_ms  20 or 60, of voice in a packet
    ring      bytearray(RING), free while the microphone is open

    `packet` and `n` are the packet to be sent when `next` has returned True; there is room for SRTP's tag.
    """

    def __init__(self, mic, frame_ms, ring):
        self._mic = mic
        self._ring = ring
        self.frame_ms = frame_ms
        self._frame = frame_ms * 8
        self._unit = bytearray(2 * samples.UNIT)
        self.packet = bytearray(_HEADER + self._frame + 10)
        self._view = memoryview(self.packet)
        self.n = 0
        self.is_open = False
        self.on_air = False
        self.packets = 0
        self._codec = None

    def open(self):
        """Open the microphone, and keep what it hears; False when it cannot be opened."""
        self._head = self._tail = self._fill = 0  # samples written, samples sent, bytes of a unit
        self._speech = -1  # first sample that is not silence
        self.packets = 0
        self.is_open = self._mic.open()
        return self.is_open

    def close(self):
        """Close the microphone and forget what was not sent."""
        self.on_air = self.is_open = False
        self._mic.close()

    def begin(self, ssrc, sequence, codec=None):
        """The floor is ours: packets from `ssrc`, their numbers from `sequence` (below 32768) on.

        codec  object with TYPE, clock, encode(voice) -> bytes; None for A-law
        Return how many milliseconds of voice lie before now.
        """
        if not self.on_air:
            first = self._head if self._speech < 0 else self._speech
            self._tail = max(0, first - _LEAD, self._head - _PREROLL)
        self._codec = codec
        packet = self.packet
        packet[0] = 0x80
        packet[1] = _MARKER | (codec.TYPE if codec else 8)
        packet[8:12] = ssrc.to_bytes(4, "big")
        self._sequence = sequence
        self._time = sequence  # as good as any number that nobody can tell
        self.packets = 0
        self.on_air = True
        return (self._head - self._tail) // 8

    def view(self, n):
        """Return the packet's first n bytes; made anew only where n is another one than before."""
        if len(self._view) != n:
            self._view = memoryview(self.packet)[:n]
        return self._view

    def listen(self):
        """Take what the microphone has heard."""
        mic = self._mic
        for _ in range(_READS):
            n = mic.read()
            if not n:
                return
            at = 0
            while at < n:
                part = min(n - at, 2 * samples.UNIT - self._fill)
                samples.copy(mic.buf, at, self._unit, self._fill, part)
                at += part
                self._fill += part
                if self._fill == 2 * samples.UNIT:
                    self._take()

    def _take(self):
        self._fill = 0
        level = g711.encode(self._unit, samples.UNIT, self._ring, self._head % RING)
        if self._speech < 0 and level > _QUIET:
            self._speech = self._head
        self._head += samples.UNIT
        if self._head - self._tail > RING - samples.UNIT:
            self._tail += samples.UNIT

    def next(self, last=False):
        """Make the next packet, if there is voice enough for one; `last`: fill it up with silence."""
        frame = self._frame
        there = min(frame, self._head - self._tail)
        if there <= 0 or there < frame and not last:
            return False
        packet = self.packet
        at = self._tail % RING
        part = min(there, RING - at)
        samples.copy(self._ring, at, packet, _HEADER, part)
        samples.copy(self._ring, 0, packet, _HEADER + part, there - part)
        for i in range(_HEADER + there, _HEADER + frame):
            packet[i] = g711.SILENCE
        self._tail += there
        time = self._time
        self.n = _HEADER + frame
        if self._codec:
            coded = self._codec.encode(packet[_HEADER : self.n])
            self.n = _HEADER + len(coded)
            packet[_HEADER : self.n] = coded
            time *= self._codec.clock // 8000
        packet[2] = self._sequence >> 8 & 255
        packet[3] = self._sequence & 255
        packet[4] = time >> 24 & 255
        packet[5] = time >> 16 & 255
        packet[6] = time >> 8 & 255
        packet[7] = time & 255
        if self.packets:
            packet[1] &= 0x7F
        self._sequence += 1
        self._time += frame
        self.packets += 1
        return True
