"""Adaptive jitter buffer: RTP packets to samples, with concealment of missing packets.

Positions are in samples; the first packet of a burst is at one second. The playout delay is `target_ms` behind the
packet with the shortest transit time of the last two seconds, which is enough for 95 % of the packets.
"""

from array import array

from agent.audio import samples
from patrolink_protocol import g711
from patrolink_protocol.native import const

RING = const(9600)
_UNITS = const(120)  # in the ring
_START = const(8000)  # position of the first packet
_TRANSIT_OFFSET = const(1 << 24)  # keeps transit times positive
_TARGET_MIN_MS = const(40)
_TARGET_MAX_MS = const(300)
_TARGET_INITIAL_MS = const(80)
_TOLERANCE = const(160)  # samples by which the delay may exceed its target
_COMPRESS_ABOVE = const(400)  # samples above the target from which speech is compressed too, not only pauses
_COMPRESS_EVERY = const(4)  # units between two compressed ones
_PAUSE_SKIP_MAX = const(3)  # units of a pause that are skipped at once
_WINDOW = const(100)  # packets
_DECAY = const(180)  # of 256, each concealed unit
_CONCEAL_MAX = const(50)  # units concealed before the output stops
_CONCEAL_END_MAX = const(20)  # the same after the end of the burst


class JitterBuffer:
    """Buffers one burst at a time.

    Args:
        ring: bytearray(RING); others may use it while no burst is active.

    Attributes:
        active: True while a burst is received or played out.
        pcm: 10 ms of samples, 16 bit, after `next_unit` returned True.
        target_ms: current target of the playout delay.
        packets: packets received in the burst.
        expected: packets sent in the burst, by sequence numbers.
        jitter: interarrival jitter (RFC 3550, 6.4.1) in samples, times 16.
        played: units played from packets.
        missed: units that were lost or too late.
    """

    def __init__(self, ring):
        self._ring = ring
        self._filled = bytearray(_UNITS)
        self._transits = array("i", [0] * _WINDOW)
        self._lateness = array("i", [0] * _WINDOW)
        self.pcm = bytearray(2 * samples.UNIT)
        self._previous_pcm = bytearray(2 * samples.UNIT)
        self.target_ms = _TARGET_INITIAL_MS
        self.start_burst()
        self.active = False

    def start_burst(self):
        """Start a burst: discard the previous one, but keep its target delay."""
        self.active = True
        self._ending = False
        self.packets = self.expected = 0
        self.jitter = 0
        self.played = 0
        self.missed = 0
        self._playing = False
        self._concealed = self._since_compressed = 0
        self._play = self._newest = _START
        self._level = 0
        for i in range(_UNITS):
            self._filled[i] = 0

    def end_burst(self):
        """End the burst: play out the buffered packets and those that arrive within 200 ms."""
        self._ending = True

    def stop(self):
        """Stop playing at once."""
        self.active = False

    def put(self, sequence, timestamp, payload, at, n, now_ms):
        """Insert a packet.

        Args:
            sequence: RTP sequence number.
            timestamp: RTP timestamp in samples at 8 kHz.
            payload: buffer that holds the samples as A-law.
            at: offset of the first sample.
            n: number of samples, a multiple of 80 and at most 960; other packets are ignored.
            now_ms: current time.
        """
        if not self.active or n <= 0 or n > 8 * 120:
            return
        if not self.packets:
            self._base = timestamp - _START
            self._first_ms = now_ms
            self._first_sequence = sequence
            self._window_n = min(_WINDOW, 16000 // n)
            self._slot = 0
        position = ((timestamp - self._base + 0x800000) & 0xFFFFFF) - 0x800000
        if position % samples.UNIT or n % samples.UNIT or position < 0:
            return
        self._measure(sequence, position, now_ms)
        if not self._playing and position < self._play:
            self._play = position
        end = position + n
        if end <= self._play:
            return  # too late
        while end - self._play > RING:
            self._filled[self._play // samples.UNIT % _UNITS] = 0
            self._play += samples.UNIT
            if end - self._play > 8 * RING:
                self._play = end - RING
        to = position % RING
        part = min(n, RING - to)
        samples.copy(payload, at, self._ring, to, part)
        samples.copy(payload, at + part, self._ring, 0, n - part)
        while position < end:
            if position >= self._play:
                self._filled[position // samples.UNIT % _UNITS] = 1
            position += samples.UNIT
        self._newest = max(self._newest, end)
        if not self._playing:
            lead = self._newest - self._play - n
            self._playing = lead >= self.target_ms * 8

    def _measure(self, sequence, position, now_ms):
        """Update the statistics and the target delay."""
        self.packets += 1
        ahead = (sequence - self._first_sequence) & 0xFFFF
        if ahead < 0x8000:
            self.expected = max(self.expected, ahead + 1)
        else:  # sent before the packet that came first
            self.expected += 0x10000 - ahead
            self._first_sequence = sequence
        transit = (now_ms - self._first_ms) * 8 - position + _TRANSIT_OFFSET
        if self.packets > 1:
            change = transit - self._transit
            self.jitter += (change if change >= 0 else -change) - ((self.jitter + 8) >> 4)
        self._transit = transit
        known = min(self.packets, self._window_n)
        self._transit_min = samples.add_transit(self._transits, self._lateness, known, self._slot, transit)
        self._slot = (self._slot + 1) % self._window_n
        if known >= 8:
            lateness = samples.percentile_95(self._lateness, known)
            self.target_ms = min(max(lateness // 8, _TARGET_MIN_MS), _TARGET_MAX_MS)

    def next_unit(self, now_ms):
        """Write the next 10 ms into `pcm`. Return False if there is nothing to play."""
        if not self.active:
            return False
        if not self._playing:
            if not self.packets or now_ms - self._first_ms < self.target_ms:
                if self._ending and not self.packets:
                    self.active = False
                return False
            self._playing = True
        if not self._decode_next() and not self._conceal():
            return False
        late = (now_ms - self._first_ms) * 8 - self._play + _TRANSIT_OFFSET - self._transit_min - self.target_ms * 8
        self._catch_up(late)
        return True

    def _catch_up(self, late):
        """Reduce a delay of `late` samples above the target: skip pauses, or else compress speech."""
        self._since_compressed += 1
        pause = self._is_pause()
        if late <= _TOLERANCE:
            return
        for _ in range(_PAUSE_SKIP_MAX):
            if not pause or late <= _TOLERANCE or not self._may_skip():
                break
            self._decode_next()
            late -= samples.UNIT
            pause = self._is_pause()
        if late > _COMPRESS_ABOVE and self._since_compressed >= _COMPRESS_EVERY and not pause and self._may_skip():
            self._since_compressed = 0
            self.pcm, self._previous_pcm = self._previous_pcm, self.pcm
            self._decode_next()
            samples.blend(self._previous_pcm, self.pcm, samples.UNIT)

    def _may_skip(self):
        """Return True if the next unit is present and the delay stays above the target without it."""
        if self._newest - self._play <= self.target_ms * 8:
            return False
        return self._filled[self._play // samples.UNIT % _UNITS] == 1

    def _is_pause(self):
        level = samples.fade(self.pcm, samples.UNIT, 256)
        self._level += (level - self._level) >> 5
        return level < 64 or level * 4 < self._level

    def _decode_next(self):
        """Decode the next unit, or conceal it if later ones are present. Return False if there are none."""
        play = self._play
        if play >= self._newest:
            return False
        slot = play // samples.UNIT % _UNITS
        if not self._filled[slot] and self._concealed:
            # Lost: its time has passed while later packets were awaited.
            while self._concealed and not self._filled[slot] and play < self._newest:
                play += samples.UNIT
                slot = play // samples.UNIT % _UNITS
                self._concealed -= 1
                self.missed += 1
        self._concealed = 0
        self._play = play + samples.UNIT
        if self._filled[slot]:
            self._filled[slot] = 0
            g711.decode(self._ring, play % RING, samples.UNIT, self.pcm, 0)
            self.played += 1
        else:
            self.missed += 1
            samples.fade(self.pcm, samples.UNIT, _DECAY)
        return True

    def _conceal(self):
        """Repeat the last unit more quietly while packets are late. Return False if it is not to be played."""
        self._concealed += 1
        if self._ending and self._concealed > _CONCEAL_END_MAX:
            self.active = False
        if self._concealed > _CONCEAL_MAX or not self.active:
            return False
        samples.fade(self.pcm, samples.UNIT, _DECAY)
        return True
