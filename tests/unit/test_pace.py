"""The rate of uploads on ways of many kinds: what voice would have to wait behind, on both runtimes."""

import random

from agent.clips.pace import Pace

PIECE = 1024


class Way:
    """A bottleneck of `kbps` with a delay, its jitter, and now and then a retransmission; time is virtual."""

    def __init__(self, kbps, rtt_ms, jitter_ms, lost_pct, seed):
        random.seed(seed)
        self.kbps, self.rtt_ms, self.jitter_ms, self.lost_pct = kbps, rtt_ms, jitter_ms, lost_pct
        self.now = 0
        self.free = 0  # bits x 1/kbps: when the bottleneck has carried off what it has
        self.queues = [0] * 1000  # by ms that a packet of voice would wait: how many ms that was so
        self.bytes = 0

    def tick(self):
        self.now += 1
        self.queues[max(0, min(int(self.free - self.now), len(self.queues) - 1))] += 1

    def upload(self, pace, ms):
        """Send requests, one after the other, for so long."""
        end = self.now + ms
        self.queues = [0] * 1000
        self.bytes = 0
        pace.afresh()
        left = 300  # a HEAD
        while self.now < end:
            n = left
            pace.begin(self.now)
            while left:
                pace.earn(self.now)
                piece = min(left, PIECE)
                if pace.may(piece):
                    left -= piece
                    self.free = max(self.free, self.now) + (piece + 40) * 8 / self.kbps
                    pace.spend(piece, not left, self.now)
                for _ in range(5):
                    self.tick()
            late = random.getrandbits(16) % (self.jitter_ms + 1) + random.getrandbits(16) % (self.jitter_ms + 1)
            if random.getrandbits(16) % 100 < self.lost_pct:
                late += 200 + self.rtt_ms
            answer = max(self.free, self.now) + self.rtt_ms + late // 2
            while self.now < answer:
                self.tick()
            pace.answered(n, self.now)
            self.bytes += n
            left = pace.size()

    def waits(self, pct):
        """The percentile of what voice would wait."""
        left = sum(self.queues) * pct // 100
        for ms, n in enumerate(self.queues):
            left -= n
            if left < 0:
                return ms


def test_no_queue_where_the_way_is_faster():
    for seed in range(5):
        way, pace = Way(10000, 100, 80, 20, seed), Pace(1000, PIECE)
        way.upload(pace, 20000)
        way.upload(pace, 60000)
        assert way.waits(99) <= 5, (seed, way.waits(99))
        assert way.bytes * 8 > 60000 * 400, (seed, way.bytes)


def test_hardly_a_queue_where_it_is_as_fast_or_slower():
    for kbps in (1000, 700, 300):
        for seed in range(5):
            way, pace = Way(kbps, 100, 80, 20, seed), Pace(1000, PIECE)
            way.upload(pace, 30000)
            way.upload(pace, 120000)
            assert way.waits(95) <= 20 + 16 * PIECE // kbps, (kbps, seed, way.waits(95))  # two pieces and little
            assert way.bytes * 8 > 120000 * kbps // 4, (kbps, seed, way.bytes)


def test_a_way_that_becomes_slow_is_believed_at_once_and_one_that_becomes_fast_again_later():
    for seed in range(5):
        way, pace = Way(5000, 60, 20, 5, seed), Pace(1000, PIECE)
        way.upload(pace, 30000)
        assert pace.kbps > 700, (seed, pace.kbps)
        way.kbps = 64
        way.upload(pace, 15000)
        assert pace.kbps < 100, (seed, pace.kbps)
        way.kbps = 5000
        way.upload(pace, 240000)
        assert pace.kbps > 700, (seed, pace.kbps)


def test_a_longer_way_is_no_queue_for_ever():
    for seed in range(5):
        way, pace = Way(5000, 40, 20, 5, seed), Pace(1000, PIECE)
        way.upload(pace, 20000)
        way.rtt_ms = 300
        pace.afresh = lambda: None  # the connection lives on
        way.upload(pace, 300000)
        assert pace.kbps > 600, (seed, pace.kbps)


def test_what_is_not_measured_does_not_count():
    pace = Pace(1000, PIECE)
    before = pace.kbps
    for _ in range(100):
        pace.begin(0)
        pace.spend(20000, False, 10)
        pace.rest()  # somebody spoke
        pace.spend(20000, True, 60000)
        pace.answered(40000, 120000)
        pace.begin(0)
        pace.spend(300, True, 10)
        pace.answered(300, 60000)  # as small as that
    assert pace.kbps == before


def test_the_rate_is_never_more_than_allowed_nor_less_than_some():
    for most in (1, 8, 20, 1000, 100000):
        pace = Pace(most, PIECE)
        for late in (0, 100000):
            for i in range(100):
                pace.begin(i)
                pace.spend(20000, True, i)
                pace.answered(20000, i + (late if i % 9 else 0))
                assert min(8, most) <= pace.kbps <= most, pace.kbps
                assert pace.wait_ms() > 0
