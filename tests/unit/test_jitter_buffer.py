"""Jitter buffer under jitter, loss, reordering and bursts of buffered speech."""

import struct

from agent.ptt.jitter_buffer import RING, JitterBuffer
from allocation import allocated
from patrolink_protocol import g711
from seeded_random import seeded


def decoded(code):
    """Return the sample of an A-law code."""
    out = bytearray(2)
    g711.decode(bytes([code]), 0, 1, out, 0)
    return struct.unpack("<h", out)[0]


def is_pause(unit):
    """Return True for the pauses of speech: 30 ms in each 200 ms."""
    return unit % 20 < 3


class BurstPlayer:
    """Plays the packets of one burst through a jitter buffer at given arrival times, and records the output.

    Attributes:
        played: (time in ms, first two samples) of every unit of 10 ms.
        end_ms: when the burst ends; None: never.
    """

    def __init__(self, frame_ms=20):
        self.jitter_buffer = JitterBuffer(bytearray(RING))
        self.jitter_buffer.start_burst()
        self.frame_ms = frame_ms
        self.played = []
        self.now_ms = 0
        self.end_ms = None

    def unit(self, number):
        """Return unit `number` as A-law: two alternating samples that identify it, at about the same level for all."""
        return bytes([0xD5 ^ (0x40 | number >> 4 & 15), 0xD5 ^ (0x40 | number & 15)]) * 40

    def first_samples(self, number):
        """Return the first two samples of unit `number`."""
        return tuple([decoded(code) for code in self.unit(number)[:2]])

    def run(self, arrivals, until_ms, is_pause=None):
        """Deliver packets.

        Args:
            arrivals: [(time in ms, packet number)].
            until_ms: when to stop.
            is_pause: function(unit number) returning True for units that are silence.
        """
        units_per_packet = self.frame_ms // 10
        arrivals = sorted(arrivals)
        while self.now_ms < until_ms:
            while arrivals and arrivals[0][0] <= self.now_ms:
                number = arrivals.pop(0)[1]
                first = number * units_per_packet
                data = b"".join(
                    [
                        b"\xd5" * 80 if is_pause and is_pause(unit) else self.unit(unit)
                        for unit in range(first, first + units_per_packet)
                    ]
                )
                sequence, timestamp = (65530 + number) & 0xFFFF, 5000 + first * 80
                self.jitter_buffer.put(sequence, timestamp, data, 0, len(data), self.now_ms)
            if self.end_ms is not None and self.now_ms >= self.end_ms:
                self.jitter_buffer.end_burst()
            if self.jitter_buffer.next_unit(self.now_ms):
                self.played.append((self.now_ms, struct.unpack_from("<2h", self.jitter_buffer.pcm)))
            self.now_ms += 10

    def times_ms(self, units):
        """Return when each of the first `units` units was played unchanged: {number: ms}."""
        times_ms = {}
        at = 0
        for number in range(units):
            for i in range(at, len(self.played)):
                if self.played[i][0] > 10 * number + 2000:
                    break
                if self.played[i][1] == self.first_samples(number):
                    times_ms[number] = self.played[i][0]
                    at = i + 1
                    break
        return times_ms


def test_steady_network_has_no_loss_and_a_short_delay():
    for frame_ms in (20, 60):
        player = BurstPlayer(frame_ms)
        count = 1200 // frame_ms
        player.end_ms = 1300
        # A packet is sent when its frame is complete, and takes 50 ms.
        player.run([((n + 1) * frame_ms + 50, n) for n in range(count)], 2500)
        times_ms = player.times_ms(count * frame_ms // 10)
        assert len(times_ms) == count * frame_ms // 10
        assert times_ms[0] - 50 <= frame_ms + 90 and not player.jitter_buffer.active
        assert player.jitter_buffer.target_ms == 40 and player.jitter_buffer.missed == 0


def test_delay_is_bounded_under_jitter_loss_and_reordering():
    for seed in (1, 2, 3):
        below = seeded(seed)
        player = BurstPlayer(20)
        count = 500
        arrivals, lost = [], 0
        for n in range(count):
            if below(100) < 1:
                lost += 1
            else:
                arrivals.append(((n + 1) * 20 + 50 + below(40), n))
        player.end_ms = 500 * 20 + 150
        player.run(arrivals, 11500, is_pause)
        times_ms = player.times_ms(2 * count)
        # The buffer delay covers 95 % of the packets. Later ones are concealed, and none is played twice.
        assert len(times_ms) >= (2 * count * 17 // 20 - 2 * lost) * 97 // 100, (seed, len(times_ms), lost)
        delays_ms = sorted([ms - 10 * number for number, ms in times_ms.items()])
        assert delays_ms[len(delays_ms) * 95 // 100] <= 20 + 50 + 40 + 40, (seed, delays_ms[-20:])
        assert player.jitter_buffer.expected - player.jitter_buffer.packets == lost


def test_packets_are_counted_when_the_first_ones_arrive_in_reverse():
    for order, lost in (([2, 0, 1], 0), ([2, 1], 0), ([8, 7, 5], 1), ([1, 0, 3], 1)):
        player = BurstPlayer(20)
        player.run([(10 * at, n) for at, n in enumerate(order)], 200)
        jitter_buffer = player.jitter_buffer
        assert jitter_buffer.packets == len(order) and jitter_buffer.expected == len(order) + lost, order


def test_pre_roll_does_not_delay_the_rest_of_the_burst():
    player = BurstPlayer(20)
    # 400 ms at once, then packets in real time.
    arrivals = [(450, n) for n in range(20)] + [((n + 1) * 20 + 50, n) for n in range(20, 300)]
    player.run(arrivals, 6100, is_pause)
    times_ms = player.times_ms(600)
    speech = [unit for unit in range(560) if not is_pause(unit)]
    compressed = [unit for unit in speech if unit not in times_ms]  # until the delay is at its target
    assert len(compressed) <= 2 * 35 and not [unit for unit in compressed if unit > 150], compressed
    assert times_ms[3] <= 480
    assert times_ms[559] - 5590 <= 20 + 50 + 40 + 30, times_ms[559]


def test_speech_without_pauses_is_compressed_until_it_is_on_time():
    player = BurstPlayer(20)
    player.run([(450, n) for n in range(20)] + [((n + 1) * 20 + 50, n) for n in range(20, 200)], 4200)
    times_ms = player.times_ms(400)
    # At most a unit in four is crossfaded with its successor, and only while the delay is too long.
    assert len(times_ms) >= 400 - 2 * 35
    assert times_ms[399] - 3990 <= 20 + 50 + 40 + 60, times_ms[399]
    assert len([unit for unit in range(200, 400) if unit in times_ms]) == 200


def test_a_second_of_packets_at_once_is_played():
    player = BurstPlayer(20)
    player.run([(1000, n) for n in range(50)], 2400)
    times_ms = player.times_ms(100)
    assert len(times_ms) >= 60 and times_ms[0] <= 1010 and times_ms[99] - times_ms[0] >= 790


def test_gap_is_concealed_for_its_duration():
    player = BurstPlayer(20)
    player.run([((n + 1) * 20, n) for n in range(50) if not 20 <= n < 23], 1300)
    times_ms = player.times_ms(100)
    assert len(times_ms) == 94 and player.jitter_buffer.missed == 6
    start_ms, end_ms = times_ms[39], times_ms[46]
    assert 40 <= end_ms - start_ms <= 70
    concealed = [samples[0] for ms, samples in player.played if start_ms < ms < end_ms]
    assert concealed == sorted(concealed, reverse=True) and concealed[-1] < player.first_samples(39)[0] // 4


def test_gap_longer_than_the_buffer_delays_by_its_duration_once():
    player = BurstPlayer(20)
    player.run([((n + 1) * 20, n) for n in range(60) if not 20 <= n < 30], 1600)
    times_ms = player.times_ms(120)
    assert len(times_ms) == 100
    assert 180 <= times_ms[60] - times_ms[39] <= 210


def test_long_gap_is_silent_and_playing_continues_after_it():
    player = BurstPlayer(20)
    player.run([((n + 1) * 20, n) for n in range(20)] + [(1500 + (n + 1) * 20, n) for n in range(20, 40)], 2500)
    assert player.jitter_buffer.active and len(player.times_ms(80)) == 80
    assert [ms for ms, _ in player.played if 1000 < ms < 1480] == []


def test_invalid_packets_are_ignored():
    jitter_buffer = JitterBuffer(bytearray(RING))
    jitter_buffer.put(1, 1000, bytes(160), 0, 160, 0)
    assert jitter_buffer.packets == 0  # no burst is active
    jitter_buffer.start_burst()
    jitter_buffer.put(1, 1000, bytes(160), 0, 160, 0)
    packets = jitter_buffer.packets
    jitter_buffer.put(2, 1001, bytes(160), 0, 160, 0)
    jitter_buffer.put(2, 1160, bytes(150), 0, 150, 0)
    jitter_buffer.put(2, 1160, b"", 0, 0, 0)
    jitter_buffer.put(2, 1160, bytes(9600), 0, 9600, 0)
    assert jitter_buffer.packets == packets
    jitter_buffer.put(3, 1000 + 0x700000, bytes(160), 0, 160, 20)  # jump of the sender's clock
    for ms in range(20, 400, 10):
        jitter_buffer.next_unit(ms)
    assert jitter_buffer.played >= 2


def test_random_packets_raise_nothing():
    below = seeded(3550)
    jitter_buffer = JitterBuffer(bytearray(RING))
    for ms in range(0, 60000, 10):
        if not below(300):
            jitter_buffer.start_burst()
        if not below(400):
            jitter_buffer.end_burst()
        if below(2):
            n = 80 * (1 + below(8))
            jitter_buffer.put(below(65536), 80 * below(400), bytes(n), 0, n, ms)
        if below(3):
            jitter_buffer.next_unit(ms)


def test_a_received_packet_allocates_nothing():
    player = BurstPlayer(20)
    player.run([((n + 1) * 20, n) for n in range(20)], 300)
    data = bytes(160)
    numbers = [20]

    def receive():
        n = numbers[0]
        player.jitter_buffer.put(65530 + n & 0xFFFF, 5000 + n * 160, data, 0, 160, 300)
        player.jitter_buffer.next_unit(300)
        player.jitter_buffer.next_unit(310)

    assert allocated(receive) == 0
    numbers[0] += 1
    assert allocated(receive) == 0
