"""From packets to the ear: an adaptive jitter buffer, and something to hear where a packet is missing.

Positions are samples since a second before the burst's first packet. What is to be heard at a position is delayed by
`target` behind the quickest packet of the last two seconds: enough for all but a twentieth of them.
"""

from array import array

from agent.audio import samples
from patrolink_protocol import g711
from patrolink_protocol.native import const

RING = const(9600)
_UNITS = const(120)  # in the ring
_START = const(8000)  # position of the first packet
_OFFSET = const(1 << 24)  # keeps transit times positive
_LEAST_MS = const(40)
_MOST_MS = const(300)
_FIRST_MS = const(80)
_SLACK = const(160)  # samples that the delay may be above its target
_FAR = const(400)  # above it by so many, speech is quickened too, not only pauses
_QUICK = const(4)  # one unit in so many
_PAUSE = const(3)  # units of a pause that are left out in one go
_WINDOW = const(100)  # packets
_DECAY = const(180)  # of 256, each unit
_LONGEST_HOLD = const(50)  # units without a packet after which the speaker is left alone
_LAST_HOLD = const(20)  # the same once the burst has ended


class Listener:
    """One burst of voice at a time. `pcm` holds a unit of samples when `unit` has returned True.

    ring  bytearray(RING), free while it listens
    """

    def __init__(self, ring):
        self._ring = ring
        self._have = bytearray(_UNITS)
        self._transits = array("i", [0] * _WINDOW)
        self._later = array("i", [0] * _WINDOW)
        self.pcm = bytearray(2 * samples.UNIT)
        self._other = bytearray(2 * samples.UNIT)
        self.target_ms = _FIRST_MS
        self.begin()
        self.active = False

    def begin(self):
        """A burst begins: what is left of another is forgotten, the delay that it needed is not."""
        self.active = True
        self.ending = False
        self.packets = self.expected = 0
        self.jitter = 0  # RFC 3550 6.4.1, times 16, in samples
        self.played = 0  # units
        self.missed = 0  # units that never came, or came too late
        self._playing = False
        self._held = self._even = 0
        self._play = self._newest = _START
        self._level = 0
        for i in range(_UNITS):
            self._have[i] = 0

    def end(self):
        """The burst is over: play what is there, and what comes late but not very late."""
        self.ending = True

    def stop(self):
        """Fall silent now."""
        self.active = False

    def put(self, sequence, time, payload, at, n, now_ms):
        """Take a packet: `time` its RTP time in samples, n samples of A-law at payload[at:]."""
        if not self.active or n <= 0 or n > 8 * 120:
            return
        if not self.packets:
            self._base = time - _START
            self._first_ms = now_ms
            self._first_sequence = sequence
            self._count = min(_WINDOW, 16000 // n)
            self._slot = 0
        position = ((time - self._base + 0x800000) & 0xFFFFFF) - 0x800000
        if position % samples.UNIT or n % samples.UNIT or position < 0:
            return
        self._measure(sequence, position, now_ms)
        if not self._playing and position < self._play:
            self._play = position
        end = position + n
        if end <= self._play:
            return  # too late
        while end - self._play > RING:
            self._have[self._play // samples.UNIT % _UNITS] = 0
            self._play += samples.UNIT
            if end - self._play > 8 * RING:
                self._play = end - RING
        place = position % RING
        part = min(n, RING - place)
        samples.copy(payload, at, self._ring, place, part)
        samples.copy(payload, at + part, self._ring, 0, n - part)
        while position < end:
            if position >= self._play:
                self._have[position // samples.UNIT % _UNITS] = 1
            position += samples.UNIT
        self._newest = max(self._newest, end)
        if not self._playing:
            lead = self._newest - self._play - n
            self._playing = lead >= self.target_ms * 8

    def _measure(self, sequence, position, now_ms):
        self.packets += 1
        self.expected = max(self.expected, ((sequence - self._first_sequence) & 0xFFFF) + 1)
        transit = (now_ms - self._first_ms) * 8 - position + _OFFSET
        if self.packets > 1:
            change = transit - self._transit
            self.jitter += (change if change >= 0 else -change) - ((self.jitter + 8) >> 4)
        self._transit = transit
        known = min(self.packets, self._count)
        self._least = samples.delays(self._transits, self._later, known, self._slot, transit)
        self._slot = (self._slot + 1) % self._count
        if known >= 8:
            self.target_ms = min(max(samples.percentile(self._later, known) // 8, _LEAST_MS), _MOST_MS)

    def unit(self, now_ms):
        """Put the next 10 ms into `pcm`; False when there is nothing to be heard now."""
        if not self.active:
            return False
        if not self._playing:
            if not self.packets or now_ms - self._first_ms < self.target_ms:
                if self.ending and not self.packets:
                    self.active = False
                return False
            self._playing = True
        if not self._take() and not self._hold():
            return False
        self._catch_up((now_ms - self._first_ms) * 8 - self._play + _OFFSET - self._least - self.target_ms * 8)
        return True

    def _catch_up(self, late):
        """Behind by more samples than the network asks for: leave out pauses; where that is not enough, be quicker."""
        self._even += 1
        quiet = self._quiet()
        if late <= _SLACK:
            return
        for _ in range(_PAUSE):
            if not quiet or late <= _SLACK or not self._ready():
                break
            self._take()
            late -= samples.UNIT
            quiet = self._quiet()
        if late > _FAR and self._even >= _QUICK and not quiet and self._ready():
            self._even = 0
            self.pcm, self._other = self._other, self.pcm
            self._take()
            samples.blend(self._other, self.pcm, samples.UNIT)

    def _ready(self):
        """Whether the unit that is next is here, and enough behind it to be in no need of it."""
        if self._newest - self._play <= self.target_ms * 8:
            return False
        return self._have[self._play // samples.UNIT % _UNITS] == 1

    def _quiet(self):
        level = samples.fade(self.pcm, samples.UNIT, 256)
        self._level += (level - self._level) >> 5
        return level < 64 or level * 4 < self._level

    def _take(self):
        """Decode the unit that is next. Where it is missing but later ones are there, go over it; False: none are."""
        play = self._play
        if play >= self._newest:
            return False
        slot = play // samples.UNIT % _UNITS
        if not self._have[slot] and self._held:
            # It was waited for, and has been lost: that time has been spent.
            while self._held and not self._have[slot] and play < self._newest:
                play += samples.UNIT
                slot = play // samples.UNIT % _UNITS
                self._held -= 1
                self.missed += 1
        self._held = 0
        self._play = play + samples.UNIT
        if self._have[slot]:
            self._have[slot] = 0
            g711.decode(self._ring, play % RING, samples.UNIT, self.pcm, 0)
            self.played += 1
        else:
            self.missed += 1
            samples.fade(self.pcm, samples.UNIT, _DECAY)
        return True

    def _hold(self):
        """Nothing has come in time: fade what was heard last, and wait."""
        self._held += 1
        if self.ending and self._held > _LAST_HOLD:
            self.active = False
        if self._held > _LONGEST_HOLD or not self.active:
            return False
        samples.fade(self.pcm, samples.UNIT, _DECAY)
        return True
