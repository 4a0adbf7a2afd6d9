"""Rate control of uploads over simulated paths: delay of voice, and throughput. Runs on both runtimes."""

import random

from agent.upload.rate_control import RateController

PIECE = 1024
HEADERS = 40
FILE = 800000  # bytes of a segment: a small request follows it


def happens(per_mille):
    return random.getrandbits(16) % 1000 < per_mille


class Path:
    """A bottleneck with delay, jitter and loss, in virtual time.

    Args:
        kbps: Rate of the bottleneck.
        rtt_ms: Round trip time.
        jitter_ms: Random part of the round trip time.
        loss: Lost segments and responses, per mille. A lost one is sent again, and delays all later ones.
        seed: Seed of the random numbers.
        stall: Responses that the hub delays by up to 2 s, per mille.
        buffer: Bytes that the connection accepts before they have arrived.
    """

    def __init__(self, kbps, rtt_ms, jitter_ms, loss, seed, stall=0, buffer=65536):
        random.seed(seed)
        self.kbps, self.rtt_ms, self.jitter_ms, self.loss, self.stall = kbps, rtt_ms, jitter_ms, loss, stall
        self.buffer = buffer
        self.now = 0
        self.free = 0  # when the bottleneck is idle
        self.last = 0  # when the last byte arrives
        self.in_flight = []  # (when the acknowledgement arrives, bytes)
        self.in_flight_bytes = 0
        self.file = 0
        self.store_ms = lambda body: 0  # ms that the hub needs to store a body
        self.clear()

    def clear(self):
        self.idle_ms = self.total_ms = 0
        self.changes = {}  # waiting time of voice in ms -> periods that begin with it, less those that end before it
        self.bytes = 0

    def delay_ms(self):
        delay_ms = self.rtt_ms // 2 + random.getrandbits(16) % (self.jitter_ms // 2 + 1)
        timeout_ms = 200 + self.rtt_ms
        while happens(self.loss):
            delay_ms += timeout_ms
            timeout_ms *= 2
        return delay_ms

    def accepts(self, n):
        while self.in_flight and self.in_flight[0][0] <= self.now:
            self.in_flight_bytes -= self.in_flight.pop(0)[1]
        return self.in_flight_bytes + n <= self.buffer

    def send(self, n):
        self.free = max(self.free, self.now) + (n + HEADERS) * 8 / self.kbps
        self.last = max(self.last, int(self.free) + self.delay_ms())
        self.in_flight.append((self.last + self.rtt_ms // 2, n))
        self.in_flight_bytes += n

    def wait(self, until):
        ms = int(until) - self.now
        if ms <= 0:
            return
        queue_ms = self.free - self.now  # how long voice would wait now; a ms later it is a ms less
        longest = int(queue_ms)
        n = min(ms, longest if longest < queue_ms else longest - 1)
        if n > 0:
            for wait_ms, change in ((longest - n + 1, 1), (longest + 1, -1)):
                self.changes[wait_ms] = self.changes.get(wait_ms, 0) + change
        self.total_ms += ms
        self.idle_ms += ms - max(n, 0)
        self.now += ms

    def upload(self, rate, ms):
        """Upload files for `ms`; the last request may end later."""
        end = self.now + ms
        self.clear()
        while self.now < end:
            size = rate.request_bytes()
            body = self.file if self.file <= size + (size >> 1) else size
            self.file = self.file - body if body else FILE
            rate.begin(self.now)
            self._request(rate, body + 400)
            response_ms = self.last + self.delay_ms() + self.store_ms(body)
            if happens(self.stall):
                response_ms += random.getrandbits(16) % 2000
            self.wait(response_ms + random.getrandbits(16) % 10)
            rate.on_response(self.now)
            self.bytes += body

    def _request(self, rate, left):
        while left:
            rate.refill(self.now)
            for _ in range(4):
                piece = min(left, rate.piece)
                if not left or not rate.allows(piece):
                    break
                if not self.accepts(piece):
                    rate.on_sent(0, False, self.now)
                    break
                left -= piece
                self.send(piece)
                rate.on_sent(piece, not left, self.now)
            ms = max(5, min(rate.wait_ms(), 10))
            self.wait(self.now + ms + (25 if happens(10) else 0))  # 25 ms: the loop sometimes encodes a picture

    def wait_ms(self, pct):
        """Return a percentile of the time that voice would wait."""
        left = self.total_ms * pct // 100 - self.idle_ms
        if left < 0:
            return 0
        n = begin_ms = 0
        for ms in sorted(self.changes):
            if left < n * (ms - begin_ms):
                return begin_ms + left // n
            left -= n * (ms - begin_ms)
            n += self.changes[ms]
            begin_ms = ms

    def used_kbps(self, ms):
        return self.bytes * 8 // ms


def converged_rate(path, ms=40000, kbps_max=1000):
    """Return a RateController after `ms` of uploads."""
    rate = RateController(kbps_max, PIECE)
    path.upload(rate, ms)
    return rate


def test_path_faster_than_the_limit_has_no_queue():
    for rtt_ms, loss, stall, minimum_kbps in (
        (100, 0, 0, 800),
        (100, 10, 0, 700),
        (100, 10, 50, 600),
        (300, 10, 0, 450),
    ):
        used = 0
        for seed in range(6):
            path = Path(10000, rtt_ms, 80, loss, seed, stall)
            rate = converged_rate(path)
            path.upload(rate, 100000)
            assert path.wait_ms(99) <= 5, (seed, rtt_ms, loss, stall, path.wait_ms(99))
            used += path.used_kbps(100000)
        assert used > 6 * minimum_kbps, (rtt_ms, loss, stall, used // 6)


def test_path_not_faster_than_the_limit_has_short_queues():
    for kbps, loss, used_pct in ((1000, 0, 78), (1000, 10, 70), (300, 10, 65), (64, 10, 60)):
        used = 0
        for seed in range(5):
            path = Path(kbps, 100, 80, loss, seed)
            rate = converged_rate(path, 60000)
            path.upload(rate, 200000)
            two_pieces_ms = 2 * 8 * (rate.piece + HEADERS) // kbps
            assert path.wait_ms(50) <= two_pieces_ms // 2 + 5, (kbps, loss, seed, path.wait_ms(50))
            assert path.wait_ms(90) <= two_pieces_ms + 15, (kbps, loss, seed, path.wait_ms(90))
            used += path.used_kbps(200000)
        assert used * 100 > 5 * kbps * used_pct, (kbps, loss, used // 5)


def test_uploads_use_80_percent_of_a_path_without_loss():
    used = 0
    for seed in range(5):
        path = Path(1000, 100, 20, 0, seed)
        rate = converged_rate(path)
        path.upload(rate, 200000)
        used += path.used_kbps(200000)
    assert used >= 5 * 800, used // 5


def test_the_rate_follows_a_slower_path_quickly_and_a_faster_one_later():
    for buffer in (16384, 250000):  # buffer of the kernel, and of a network with deep queues
        for slow in (64, 300):
            for seed in range(2):
                path = Path(5000, 60, 20, 5, seed, buffer=buffer)
                rate = converged_rate(path, 60000)
                assert rate.kbps > 500, (buffer, slow, seed, rate.kbps)
                path.kbps = slow
                path.upload(rate, 90000)
                assert rate.kbps < slow * 9 // 8, (buffer, slow, seed, rate.kbps)
                path.upload(rate, 30000)
                assert path.wait_ms(90) < 150, (buffer, slow, seed, path.wait_ms(90))
                path.kbps = 5000
                path.upload(rate, 300000)
                assert rate.kbps > 500, (buffer, slow, seed, rate.kbps)


def test_an_outage_does_not_count_as_a_slow_path():
    for seed in range(5):
        path = Path(1000, 100, 20, 0, seed)
        rate = converged_rate(path, 60000)
        before = rate.kbps
        for _ in range(3):
            path.last = path.now + 15000
            path.upload(rate, 20000)
        assert rate.kbps * 8 > before, (seed, before, rate.kbps)
        path.upload(rate, 120000)
        assert path.used_kbps(120000) > 500, (seed, path.used_kbps(120000))


def test_storage_time_of_the_hub_does_not_count_as_a_queue():
    for ms, size in ((150, 0), (300, 5 << 20)):  # constant time; time that grows with the upload
        for seed in range(3):
            path, stored = Path(10000, 100, 40, 2, seed), [0]

            def store_ms(body, ms=ms, size=size, stored=stored):
                stored[0] = (stored[0] + body) % size if size else 0
                return ms * stored[0] // size if size else ms * (body > 0)

            path.store_ms = store_ms
            rate = converged_rate(path, 30000, 4000)
            path.upload(rate, 90000)
            assert path.used_kbps(90000) > 800, (ms, size, seed, path.used_kbps(90000))


def test_the_rate_recovers_after_a_rise_of_the_round_trip_time():
    for seed in range(5):
        path = Path(5000, 40, 20, 5, seed)
        rate = converged_rate(path, 20000)
        path.rtt_ms = 300
        path.upload(rate, 300000)
        assert rate.kbps > 500, (seed, rate.kbps)


def test_interrupted_and_small_requests_do_not_change_the_rate():
    rate = RateController(1000, PIECE)
    before = rate.kbps
    for _ in range(100):
        rate.begin(0)
        rate.on_sent(20000, False, 10)
        rate.pause()  # push-to-talk is active
        rate.on_sent(20000, True, 60000)
        rate.on_response(120000)
        rate.begin(0)
        rate.on_sent(300, True, 10)
        rate.on_response(60000)  # too small a request to measure
    assert rate.kbps == before


def test_a_request_interrupted_by_voice_is_measured_after_it():
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


def test_the_rate_stays_within_its_limits():
    for kbps_max in (1, 8, 20, 1000, 100000):
        rate = RateController(kbps_max, PIECE)
        for late in (0, 100000):
            for i in range(100):
                now = 200000 * i
                rate.begin(now)
                rate.on_sent(rate.request_bytes(), True, now)
                rate.on_response(now + (late if i % 9 else 0))
                assert min(8, kbps_max) <= rate.kbps <= kbps_max, rate.kbps
                assert rate.wait_ms() > 0 and rate.piece * 8 <= max(rate.kbps * 40, 256 * 8), (kbps_max, rate.piece)
