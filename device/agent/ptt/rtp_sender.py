"""RTP sender: microphone samples to packets. Speech from before the grant is buffered and sent after it."""

from agent.audio import samples
from patrolink_protocol import g711
from patrolink_protocol.native import const

RING = const(9600)  # samples in the buffer: a multiple of every packet's samples
_PREROLL_MAX = const(8000)  # samples sent from before the grant
_LEAD = const(320)  # samples sent from before the first speech
_SILENCE_LEVEL = const(150)  # mean magnitude of a unit, about -47 dBFS
_READS_MAX = const(100)  # units of 10 ms read in a call
_HEADER = const(12)
_MARKER = const(0x80)


class RtpSender:
    """Captures the microphone into a ring of A-law and makes plain RTP packets (RFC 3550, 5.1) from it.

    Args:
        mic: Microphone of the HAL: open() -> bool, close(), read() -> bytes that are new in `buf`.
        frame_ms: speech in a packet, 20 or 60 ms.
        ring: bytearray(RING); others may use it while the microphone is closed.

    Attributes:
        packet: the packet that `next_packet` made, with space for the SRTP tag.
        n: its length.
        is_open: True while the microphone is open.
        on_air: True between `start_burst` and `close`.
        packets: packets of the current or last burst.
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
        """Open the microphone and start to buffer. Return False if it cannot be opened."""
        self._head = self._tail = self._fill = 0  # samples written, samples sent, bytes of an incomplete unit
        self._speech = -1  # first sample that is not silence
        self.packets = 0
        self.is_open = self._mic.open()
        return self.is_open

    def close(self):
        """Close the microphone and discard the samples that were not sent."""
        self.on_air = self.is_open = False
        self._mic.close()

    def start_burst(self, ssrc, sequence, codec=None):
        """Start to make packets; the first one has the marker bit.

        Args:
            ssrc: SSRC of the packets.
            sequence: first sequence number, below 32768.
            codec: object with TYPE, clock and encode(A-law) -> bytes; None for A-law.

        Returns:
            Milliseconds of buffered speech that will be sent.
        """
        if not self.on_air:
            first = self._head if self._speech < 0 else self._speech
            self._tail = max(0, first - _LEAD, self._head - _PREROLL_MAX)
        self._codec = codec
        packet = self.packet
        packet[0] = 0x80
        packet[1] = _MARKER | (codec.TYPE if codec else 8)
        packet[8:12] = ssrc.to_bytes(4, "big")
        self._sequence = sequence
        self._timestamp = sequence  # RFC 3550, 5.1: any unpredictable value
        self.packets = 0
        self.on_air = True
        return (self._head - self._tail) // 8

    def packet_view(self, n):
        """Return a memoryview of packet[:n]. One is allocated only if n differs from the last call."""
        if len(self._view) != n:
            self._view = memoryview(self.packet)[:n]
        return self._view

    def capture(self):
        """Read the samples that are new at the microphone into the buffer."""
        mic = self._mic
        for _ in range(_READS_MAX):
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
                    self._store_unit()

    def _store_unit(self):
        self._fill = 0
        level = g711.encode(self._unit, samples.UNIT, self._ring, self._head % RING)
        if self._speech < 0 and level > _SILENCE_LEVEL:
            self._speech = self._head
        self._head += samples.UNIT
        if self._head - self._tail > RING - samples.UNIT:
            self._tail += samples.UNIT

    def next_packet(self, last=False):
        """Make the next packet in `packet`. Return False if there are too few samples.

        Args:
            last: pad an incomplete packet with silence.
        """
        frame = self._frame
        available = min(frame, self._head - self._tail)
        if available <= 0 or available < frame and not last:
            return False
        packet = self.packet
        at = self._tail % RING
        part = min(available, RING - at)
        samples.copy(self._ring, at, packet, _HEADER, part)
        samples.copy(self._ring, 0, packet, _HEADER + part, available - part)
        for i in range(_HEADER + available, _HEADER + frame):
            packet[i] = g711.SILENCE
        self._tail += available
        timestamp = self._timestamp
        self.n = _HEADER + frame
        if self._codec:
            payload = self._codec.encode(packet[_HEADER : self.n])
            self.n = _HEADER + len(payload)
            packet[_HEADER : self.n] = payload
            timestamp *= self._codec.clock // 8000
        packet[2] = self._sequence >> 8 & 255
        packet[3] = self._sequence & 255
        packet[4] = timestamp >> 24 & 255
        packet[5] = timestamp >> 16 & 255
        packet[6] = timestamp >> 8 & 255
        packet[7] = timestamp & 255
        if self.packets:
            packet[1] &= 0x7F
        self._sequence += 1
        self._timestamp += frame
        self.packets += 1
        return True
