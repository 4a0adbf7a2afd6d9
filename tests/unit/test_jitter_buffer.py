"""Sample loops, and the jitter buffer under jitter, loss, disorder and what was said before the grant."""

import struct

from agent.audio import samples
from agent.ptt import playback
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.playback import Playback
from allocation import allocated
from patrolink_protocol import g711
from seeded_random import seeded


def decoded(code):
    out = bytearray(2)
    g711.decode(bytes([code]), 0, 1, out, 0)
    return struct.unpack("<h", out)[0]


def test_mean_magnitude_and_fading():
    pcm = bytearray(struct.pack("<4h", 1000, -1000, 500, -500))
    assert samples.fade(pcm, 4, 128) == 750
    assert struct.unpack("<4h", pcm) == (500, -500, 250, -250)
    pcm = bytearray(struct.pack("<2h", -32768, 32767))
    samples.fade(pcm, 2, 256)
    assert struct.unpack("<2h", pcm) == (-32768, 32767)


def test_a_tone_has_its_pitch_and_nothing_louder():
    pcm = bytearray(1600)
    samples.tone(pcm, 800, 0, 1000, 48)
    values = struct.unpack("<800h", pcm)
    assert max(values) <= 127 * 48 and min(values) >= -128 * 48 and max(values) > 5000
    crossings = sum([1 for a, b in zip(values, values[1:]) if a < 0 <= b])
    assert 98 <= crossings <= 101  # 100 ms of 1000 Hz


def test_percentile():
    from array import array

    below = seeded(95)
    for _ in range(50):
        n = 1 + below(100)
        values = [below(50) for _ in range(n)]
        got = samples.percentile(array("i", values + [999] * 3), n)
        assert got == sorted(values)[n - 1 - n // 20], (n, values)


class Network:
    """Plays packets of one burst into a listener through delays of the caller's, and keeps what is heard."""

    def __init__(self, frame_ms=20):
        self.jitter_buffer = JitterBuffer(bytearray(RING))
        self.jitter_buffer.start_burst()
        self.frame_ms = frame_ms
        self.heard = []  # (ms, the unit's first two samples)
        self.ms = 0
        self.end_at = None

    def unit(self, number):
        """A-law of unit `number`: two samples in turn by which it is known again, all about as loud."""
        return bytes([0xD5 ^ (0x40 | number >> 4 & 15), 0xD5 ^ (0x40 | number & 15)]) * 40

    def value(self, number):
        return tuple([decoded(code) for code in self.unit(number)[:2]])

    def play(self, arrivals, ms, quiet=None):
        """arrivals: [(ms, packet number)]; run for `ms`."""
        per = self.frame_ms // 10
        arrivals = sorted(arrivals)
        while self.ms < ms:
            while arrivals and arrivals[0][0] <= self.ms:
                number = arrivals.pop(0)[1]
                data = b"".join(
                    [
                        b"\xd5" * 80 if quiet and quiet(u) else self.unit(u)
                        for u in range(number * per, number * per + per)
                    ]
                )
                self.jitter_buffer.put((65530 + number) & 0xFFFF, 5000 + number * per * 80, data, 0, len(data), self.ms)
            if self.end_at is not None and self.ms >= self.end_at:
                self.jitter_buffer.end_burst()
            if self.jitter_buffer.next_unit(self.ms):
                self.heard.append((self.ms, struct.unpack_from("<2h", self.jitter_buffer.pcm)))
            self.ms += 10

    def numbers(self, units):
        """Return when each unit was heard as it was sent: {number: ms}."""
        out = {}
        at = 0
        for number in range(units):
            for i in range(at, len(self.heard)):
                if self.heard[i][0] > 10 * number + 2000:
                    break
                if self.heard[i][1] == self.value(number):
                    out[number] = self.heard[i][0]
                    at = i + 1
                    break
        return out


def test_a_steady_network_is_heard_whole_and_soon():
    for frame_ms in (20, 60):
        it = Network(frame_ms)
        count = 1200 // frame_ms
        it.end_at = 1300
        # A packet is sent once it has been spoken, and takes 50 ms.
        it.play([((n + 1) * frame_ms + 50, n) for n in range(count)], 2500)
        got = it.numbers(count * frame_ms // 10)
        assert len(got) == count * frame_ms // 10
        assert got[0] - 50 <= frame_ms + 90 and not it.jitter_buffer.active
        assert it.jitter_buffer.target_ms == 40 and it.jitter_buffer.missed == 0


def test_jitter_loss_and_disorder():
    for seed in (1, 2, 3):
        below = seeded(seed)
        it = Network(20)
        count = 500
        arrivals, lost = [], 0
        for n in range(count):
            if below(100) < 1:
                lost += 1
            else:
                arrivals.append(((n + 1) * 20 + 50 + below(40), n))
        it.end_at = 500 * 20 + 150
        it.play(arrivals, 11500, lambda u: u % 20 < 3)  # speech has pauses
        got = it.numbers(2 * count)
        # A twentieth of the packets may be later than the buffer waits, each costs little; none is played twice.
        assert len(got) >= (2 * count * 17 // 20 - 2 * lost) * 97 // 100, (seed, len(got), lost)
        delays = sorted([ms - 10 * number for number, ms in got.items()])
        assert delays[len(delays) * 95 // 100] <= 20 + 50 + 40 + 40, (seed, delays[-20:])
        assert it.jitter_buffer.expected - it.jitter_buffer.packets == lost


def test_what_was_said_before_the_grant_does_not_delay_the_rest():
    it = Network(20)
    # 400 ms at once, then packets as they are spoken; every tenth unit of speech is a pause of 30 ms.
    arrivals = [(450, n) for n in range(20)] + [((n + 1) * 20 + 50, n) for n in range(20, 300)]
    it.play(arrivals, 6100, lambda u: u % 20 < 3)
    got = it.numbers(600)
    loud = [u for u in range(560) if u % 20 >= 3]
    blended = [u for u in loud if u not in got]  # two in the time of one, until it is in time
    assert len(blended) <= 2 * 35 and not [u for u in blended if u > 150], blended
    assert got[3] <= 480
    assert got[559] - 5590 <= 20 + 50 + 40 + 30, got[559]


def test_speech_without_a_pause_is_quickened_until_it_is_in_time():
    it = Network(20)
    it.play([(450, n) for n in range(20)] + [((n + 1) * 20 + 50, n) for n in range(20, 200)], 4200)
    got = it.numbers(400)
    # A unit in four is heard in two halves at most, and only while it is late.
    assert len(got) >= 400 - 2 * 35
    assert got[399] - 3990 <= 20 + 50 + 40 + 60, got[399]
    assert len([u for u in range(200, 400) if u in got]) == 200


def test_two_units_in_the_time_of_one():
    before, pcm = (
        bytearray(struct.pack("<4h", 4000, 4000, -4000, 32767)),
        bytearray(struct.pack("<4h", 0, 0, 4000, -32768)),
    )
    samples.blend(before, pcm, 4)
    assert struct.unpack("<4h", pcm) == (4000, 3000, 0, -16385)


def test_a_second_of_it_at_once_is_heard_whole():
    it = Network(20)
    it.play([(1000, n) for n in range(50)], 2400)
    got = it.numbers(100)
    assert len(got) >= 60 and got[0] <= 1010 and got[99] - got[0] >= 790


def test_a_gap_fades_and_is_not_the_end():
    it = Network(20)
    it.play([((n + 1) * 20, n) for n in range(50) if not 20 <= n < 23], 1300)
    got = it.numbers(100)
    assert len(got) == 94 and it.jitter_buffer.missed == 6
    before, after = got[39], got[46]
    assert 40 <= after - before <= 70  # the time that was lost has passed, no more
    faded = [v[0] for ms, v in it.heard if before < ms < after]
    assert faded == sorted(faded, reverse=True) and faded[-1] < it.value(39)[0] // 4


def test_a_gap_longer_than_the_buffer_costs_its_time_once():
    it = Network(20)
    it.play([((n + 1) * 20, n) for n in range(60) if not 20 <= n < 30], 1600)
    got = it.numbers(120)
    assert len(got) == 100
    assert 180 <= got[60] - got[39] <= 210


def test_a_long_hole_is_silence_and_voice_goes_on_behind_it():
    it = Network(20)
    it.play([((n + 1) * 20, n) for n in range(20)] + [(1500 + (n + 1) * 20, n) for n in range(20, 40)], 2500)
    assert it.jitter_buffer.active and len(it.numbers(80)) == 80
    silent = [ms for ms, _ in it.heard if 1000 < ms < 1480]
    assert silent == []


def test_packets_that_cannot_be():
    it = JitterBuffer(bytearray(RING))
    it.put(1, 1000, bytes(160), 0, 160, 0)
    assert it.packets == 0  # nobody is being heard
    it.start_burst()
    it.put(1, 1000, bytes(160), 0, 160, 0)
    packets = it.packets
    it.put(2, 1001, bytes(160), 0, 160, 0)
    it.put(2, 1160, bytes(150), 0, 150, 0)
    it.put(2, 1160, b"", 0, 0, 0)
    it.put(2, 1160, bytes(9600), 0, 9600, 0)
    assert it.packets == packets
    it.put(3, 1000 + 0x700000, bytes(160), 0, 160, 20)  # the sender's clock has jumped
    for ms in range(20, 400, 10):
        it.next_unit(ms)
    assert it.played >= 2


def test_whatever_comes_the_listener_stands():
    below = seeded(3550)
    it = JitterBuffer(bytearray(RING))
    for ms in range(0, 60000, 10):
        if not below(300):
            it.start_burst()
        if not below(400):
            it.end_burst()
        if below(2):
            n = 80 * (1 + below(8))
            it.put(below(65536), 80 * below(400), bytes(n), 0, n, ms)
        if below(3):
            it.next_unit(ms)


def test_nothing_is_allocated_for_a_packet_that_is_heard():
    it = Network(20)
    it.play([((n + 1) * 20, n) for n in range(20)], 300)
    data = bytes(160)
    number = [20]

    def packet():
        n = number[0]
        it.jitter_buffer.put(65530 + n & 0xFFFF, 5000 + n * 160, data, 0, 160, 300)
        it.jitter_buffer.next_unit(300)
        it.jitter_buffer.next_unit(310)

    def next():
        number[0] += 1

    assert allocated(packet) == 0
    next()
    assert allocated(packet) == 0


class Speaker:
    def __init__(self):
        self.units = []

    def write(self, pcm):
        self.units.append(bytes(pcm))


def test_the_speaker_has_a_clock_of_its_own():
    speaker, jitter_buffer = Speaker(), JitterBuffer(bytearray(RING))
    it = Playback(speaker, jitter_buffer, 0)
    assert it.serve(0) is None and speaker.units == []
    it.play_tone(playback.DENY_TONE)
    assert it.serve(5) == 10 and len(speaker.units) == 1
    assert it.serve(12) == 3 and len(speaker.units) == 1
    assert it.serve(39) == 6 and len(speaker.units) == 4  # the main loop was late: what is due is said
    it.serve(2000)  # very late: it is not said as fast as it can be
    assert len(speaker.units) == 5
    for ms in range(2010, 2600, 10):
        it.serve(ms)
    assert len(speaker.units) == 30  # 300 ms
    assert not it.replay()
