"""The rate of uploads on ways of many kinds: what voice would have to wait behind, on both runtimes."""

import random

from agent.upload.rate_control import RateController

PIECE = 1024
HEADERS = 40
FILE = 800000  # bytes of five seconds of film: after them comes a request with few bytes
LONGEST = 4000  # ms of a queue that are told apart


def chance(thousandth):
    return random.getrandbits(16) % 1000 < thousandth


class Way:
    """
    A bottleneck and what is around it, as emulator.network has it; time is virtual.

    lost    thousandths of the segments and answers: what is sent again is late, and all behind it waits
    stall   thousandths of the answers that the hub, whose storage is busy, gives up to 2 s later
    buffer  bytes that the connection takes before they have arrived
    """

    def __init__(self, kbps, rtt_ms, jitter_ms, lost, seed, stall=0, buffer=65536):
        random.seed(seed)
        self.kbps, self.rtt_ms, self.jitter_ms, self.lost, self.stall = kbps, rtt_ms, jitter_ms, lost, stall
        self.buffer = buffer
        self.now = 0
        self.free = 0  # when the bottleneck has carried off what it has
        self.last = 0  # when the last byte arrives
        self.under_way = []  # (when the device hears that they have come, bytes)
        self.flying = 0
        self.file = 0
        self.store_ms = lambda body: 0  # that the hub takes to store a body
        self.clear()

    def clear(self):
        self.queues = [0] * (LONGEST + 1)  # by ms that a packet of voice would wait: how many ms that was so
        self.bytes = 0

    def late(self):
        late = self.rtt_ms // 2 + random.getrandbits(16) % (self.jitter_ms // 2 + 1)
        again = 200 + self.rtt_ms
        while chance(self.lost):
            late += again
            again *= 2
        return late

    def takes(self, n):
        while self.under_way and self.under_way[0][0] <= self.now:
            self.flying -= self.under_way.pop(0)[1]
        return self.flying + n <= self.buffer

    def send(self, n):
        self.free = max(self.free, self.now) + (n + HEADERS) * 8 / self.kbps
        self.last = max(self.last, int(self.free) + self.late())
        self.under_way.append((self.last + self.rtt_ms // 2, n))
        self.flying += n

    def wait(self, until):
        until = int(until)
        while self.now < until and self.free > self.now + 1:
            self.queues[min(int(self.free - self.now), LONGEST)] += 1
            self.now += 1
        if self.now < until:
            self.queues[0] += until - self.now
            self.now = until

    def upload(self, rate, ms):
        """Send files, one request after the other, for so long; the last may end later."""
        end = self.now + ms
        self.clear()
        while self.now < end:
            size = rate.request_bytes()
            body = self.file if self.file <= size + (size >> 1) else size
            self.file = self.file - body if body else FILE
            rate.begin(self.now)
            self._request(rate, body + 400)
            answer = self.last + self.late() + self.store_ms(body)
            if chance(self.stall):
                answer += random.getrandbits(16) % 2000
            self.wait(answer + random.getrandbits(16) % 10)
            rate.on_response(self.now)
            self.bytes += body

    def _request(self, rate, left):
        while left:
            rate.refill(self.now)
            for _ in range(4):
                piece = min(left, rate.piece)
                if not left or not rate.allows(piece):
                    break
                if not self.takes(piece):
                    rate.on_sent(0, False, self.now)
                    break
                left -= piece
                self.send(piece)
                rate.on_sent(piece, not left, self.now)
            ms = max(5, min(rate.wait_ms(), 10))
            self.wait(self.now + ms + (25 if chance(10) else 0))  # now and then a picture is encoded

    def waits(self, pct):
        """The percentile of what voice would wait."""
        left = sum(self.queues) * pct // 100
        for ms, n in enumerate(self.queues):
            left -= n
            if left < 0:
                return ms

    def used_kbps(self, ms):
        return self.bytes * 8 // ms


def after(way, ms=40000, most=1000):
    """A rate that has found its rate."""
    rate = RateController(most, PIECE)
    way.upload(rate, ms)
    return rate


def test_no_queue_where_the_way_is_faster():
    for rtt_ms, lost, stall, least in ((100, 0, 0, 800), (100, 10, 0, 700), (100, 10, 50, 600), (300, 10, 0, 450)):
        used = 0
        for seed in range(6):
            way = Way(10000, rtt_ms, 80, lost, seed, stall)
            rate = after(way)
            way.upload(rate, 100000)
            assert way.waits(99) <= 5, (seed, rtt_ms, lost, stall, way.waits(99))
            used += way.used_kbps(100000)
        assert used > 6 * least, (rtt_ms, lost, stall, used // 6)


def test_hardly_a_queue_where_it_is_as_fast_or_slower():
    for kbps, lost, used_pct in ((1000, 0, 78), (1000, 10, 70), (300, 10, 65), (64, 10, 60)):
        used = 0
        for seed in range(5):
            way = Way(kbps, 100, 80, lost, seed)
            rate = after(way, 60000)
            way.upload(rate, 200000)
            two = 2 * 8 * (rate.piece + HEADERS) // kbps  # pieces
            assert way.waits(50) <= two // 2 + 5, (kbps, lost, seed, way.waits(50))
            assert way.waits(90) <= two + 15, (kbps, lost, seed, way.waits(90))
            used += way.used_kbps(200000)
        assert used * 100 > 5 * kbps * used_pct, (kbps, lost, used // 5)


def test_four_fifths_of_a_way_without_losses_are_used():
    used = 0
    for seed in range(5):
        way = Way(1000, 100, 20, 0, seed)
        rate = after(way)
        way.upload(rate, 200000)
        used += way.used_kbps(200000)
    assert used >= 5 * 800, used // 5


def test_a_way_that_becomes_slow_is_believed_soon_and_one_that_becomes_fast_again_later():
    for buffer in (16384, 250000):  # of the kernel alone, of a network that does not drop
        for slow in (64, 300):
            for seed in range(2):
                way = Way(5000, 60, 20, 5, seed, buffer=buffer)
                rate = after(way, 60000)
                assert rate.kbps > 500, (buffer, slow, seed, rate.kbps)
                way.kbps = slow
                way.upload(rate, 90000)
                assert rate.kbps < slow * 9 // 8, (buffer, slow, seed, rate.kbps)
                way.upload(rate, 30000)
                assert way.waits(90) < 150, (buffer, slow, seed, way.waits(90))
                way.kbps = 5000
                way.upload(rate, 300000)
                assert rate.kbps > 500, (buffer, slow, seed, rate.kbps)


def test_an_outage_is_no_slow_way():
    for seed in range(5):
        way = Way(1000, 100, 20, 0, seed)
        rate = after(way, 60000)
        before = rate.kbps
        for _ in range(3):
            way.last = way.now + 15000
            way.upload(rate, 20000)
        assert rate.kbps * 8 > before, (seed, before, rate.kbps)
        way.upload(rate, 120000)
        assert way.used_kbps(120000) > 500, (seed, way.used_kbps(120000))


def test_the_time_that_a_hub_takes_to_store_is_no_queue():
    for ms, of in ((150, 0), (300, 5 << 20)):  # always as long; longer with what it has, until that is put elsewhere
        for seed in range(3):
            way, has = Way(10000, 100, 40, 2, seed), [0]

            def store_ms(body, ms=ms, of=of, has=has):
                has[0] = (has[0] + body) % of if of else 0
                return ms * has[0] // of if of else ms * (body > 0)

            way.store_ms = store_ms
            rate = after(way, 30000, 4000)
            way.upload(rate, 90000)
            assert way.used_kbps(90000) > 800, (ms, of, seed, way.used_kbps(90000))


def test_a_longer_way_is_no_queue_for_ever():
    for seed in range(5):
        way = Way(5000, 40, 20, 5, seed)
        rate = after(way, 20000)
        way.rtt_ms = 300
        way.upload(rate, 300000)
        assert rate.kbps > 500, (seed, rate.kbps)


def test_what_is_not_measured_does_not_count():
    rate = RateController(1000, PIECE)
    before = rate.kbps
    for _ in range(100):
        rate.begin(0)
        rate.on_sent(20000, False, 10)
        rate.pause()  # somebody spoke
        rate.on_sent(20000, True, 60000)
        rate.on_response(120000)
        rate.begin(0)
        rate.on_sent(300, True, 10)
        rate.on_response(60000)  # as small as that
    assert rate.kbps == before


def test_what_goes_after_voice_is_measured_by_itself():
    rate = RateController(1000, PIECE)
    before = rate.kbps
    for i in range(4):
        at = i * 100000
        rate.begin(at)
        rate.on_sent(20000, False, at + 10)
        rate.pause()
        rate.refill(at + 60000)
        rate.on_sent(20000, True, at + 60640)
        rate.on_response(at + 60740)
    assert before < rate.kbps < before * 3 // 2, rate.kbps


def test_the_rate_is_never_more_than_allowed_nor_less_than_some():
    for most in (1, 8, 20, 1000, 100000):
        rate = RateController(most, PIECE)
        for late in (0, 100000):
            for i in range(100):
                now = 200000 * i
                rate.begin(now)
                rate.on_sent(rate.request_bytes(), True, now)
                rate.on_response(now + (late if i % 9 else 0))
                assert min(8, most) <= rate.kbps <= most, rate.kbps
                assert rate.wait_ms() > 0 and rate.piece * 8 <= max(rate.kbps * 40, 256 * 8), (most, rate.piece)
