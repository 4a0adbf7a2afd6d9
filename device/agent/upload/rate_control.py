"""Rate control of uploads: finds a rate that leaves no queue for voice to wait behind. MicroPython subset.

Like LEDBAT (RFC 6817) it keeps the delay near the lowest recent one, and takes a higher delay for a queue. LEDBAT sees
the delay of each packet. Here each request has one response, so a decision takes several requests.
"""

from patrolink_protocol.native import const

# The state: hold the rate; raise it a little to see whether the network carries more; search for the rate.
_HOLD, _RAISE, _SEARCH = range(3)
# Indexed by the state:
_REQUEST_MS = (3000, 800, 400)  # duration of a request; the network is idle for a round trip between two of them
_ROUND = (8, 4, 4)  # requests that are judged together
_QUEUE_MS = (25, 25, 60)  # delay above the lowest one that a request may cause
_HOLD_ROUNDS = const(3)  # rounds without a queue before the rate is raised, which may delay voice
_RAISE_ROUNDS = const(5)  # raises without a queue before the search begins
_MEMORY = const(16)  # requests for which the lowest delay is remembered
_REQUEST_MIN = const(16384)  # bytes: the head is then 2 % of the request
_REQUEST_MAX = const(524288)  # bytes: web servers accept 1 MB by default
_PIECE_MS = const(40)
_PIECE_MIN = const(256)  # bytes: headers add a quarter
_HEADER_BYTES = const(72)  # a piece: IPv6, and TCP with timestamps
_BURST_MS = const(20)
_STALL_CHECK_MS = const(2000)
_LATE_MS = const(1000)  # that a request may take longer than the rate suggests
_LATE_MAX = const(3)  # late requests in a row after which the network counts as changed
_KBPS_MIN = const(8)
_UNKNOWN_MS = const(0x3FFFFFFF)


class RateController:
    """Token bucket whose rate follows the delay of responses.

    The hub responds when it has the whole request. By then all queues on the path have drained, so the delay of the
    response tells how long they were: in the kernel, in a modem, or in the network. A single response may be late for
    other reasons, so the earliest of several counts.

    Attributes:
        kbps: The current rate with headers, kbit/s.
        piece: Bytes of one send: voice waits until one piece has been sent.

    Args:
        kbps_max: Upper limit of the rate, kbit/s.
        piece_max: Upper limit of `piece`, bytes.
    """

    def __init__(self, kbps_max, piece_max):
        self._kbps_max = kbps_max
        self._piece_max = piece_max
        self._state = _SEARCH
        self._good_rounds = 0  # without a queue, in this state
        self._set(kbps_max >> 2, _SEARCH)
        self.reset()

    def reset(self):
        """A new connection: its delay is not known yet."""
        self._base_ms = _UNKNOWN_MS  # lowest delay of all requests, small ones included
        # Lowest delay of large requests, whose last bytes wait for all others: of the last period, and of this one.
        self._old_ms = self._new_ms = _UNKNOWN_MS
        self._requests = self._tokens = self._late = 0
        self.pause()
        self._begin_round()

    def _begin_round(self):
        self._round_requests = self._best_kbps = 0
        self._round_ms = _UNKNOWN_MS

    def request_bytes(self):
        """Return a body size that is large against the head, and that is answered soon."""
        duration_ms = _REQUEST_MS[_SEARCH if self._late else self._state]
        return max(_REQUEST_MIN, min(self.kbps * duration_ms >> 3, _REQUEST_MAX))

    def refill(self, now):
        """Add the tokens since the last call, at most a burst, so that no queue grows."""
        piece_bits = self.piece + _HEADER_BYTES << 3
        if self._refill_ms is None:
            self._tokens = piece_bits
        else:
            earned = self._tokens + (now - self._refill_ms) * self.kbps
            self._tokens = min(earned, self.kbps * _BURST_MS + piece_bits)
        self._refill_ms = now
        if self._begin_ms is None:
            self.begin(now)
        if now - self._check_ms >= _STALL_CHECK_MS:
            self._check_stall(now)

    def allows(self, n):
        """Return whether n bytes may be sent now."""
        return self._tokens >= n + _HEADER_BYTES << 3

    def wait_ms(self):
        """Return the ms until a piece may be sent."""
        return max(((self.piece + _HEADER_BYTES << 3) - self._tokens) // self.kbps, 0) + 1

    def pause(self):
        """Nothing is sent or received for a while: the current request says nothing about the network."""
        self._refill_ms = self._begin_ms = self._sent_ms = None

    def begin(self, now):
        """A request begins."""
        self._begin_ms = self._check_ms = now
        self._sent_ms = None
        self._request_sent = self._recent_sent = 0
        self._blocked = False

    def on_sent(self, n, complete, now):
        """Count sent bytes.

        Args:
            n: Bytes; 0 if the connection accepted none.
            complete: Whether the request is complete with them.
            now: Monotonic ms.
        """
        if not n:
            self._blocked = True
            return
        n += _HEADER_BYTES
        self._tokens -= n << 3
        self._request_sent += n
        self._recent_sent += n
        if complete and self._begin_ms is not None:
            self._sent_ms = now

    def _check_stall(self, now):
        """Lower the rate during a request when the network has become slow: its response is a long time away."""
        carried_kbps = (self._recent_sent << 3) // (now - self._check_ms)
        self._check_ms = now
        # With nothing carried at all it is an outage, which says nothing about the rate.
        if self._blocked and self._sent_ms is None and 0 < carried_kbps < self.kbps >> 2:
            self._set(max(carried_kbps - (carried_kbps >> 3), self.kbps >> 3), _HOLD)
            self._tokens = -self.kbps * _STALL_CHECK_MS  # the queue in the connection drains first
            self._check_ms += _STALL_CHECK_MS
        self._recent_sent = 0
        self._blocked = False

    def on_response(self, now):
        """The hub has the request. A small one causes no queue, so it shows the delay of the path."""
        if self._sent_ms is None:
            return
        delay_ms = now - self._sent_ms
        self._base_ms = min(self._base_ms, delay_ms)
        if self._request_sent < self.request_bytes() >> 1:
            return
        duration_ms = max(now - self._begin_ms - self._base_ms, 1)
        carried_kbps = (self._request_sent << 3) // duration_ms
        if self._is_network_changed(duration_ms, carried_kbps):
            self._base_ms = self._old_ms = self._new_ms = _UNKNOWN_MS
            self._set(self._late_kbps - (self._late_kbps >> 3), _HOLD)
            return
        self._best_kbps = max(self._best_kbps, carried_kbps)
        self._requests += 1
        if self._requests % _MEMORY == 0:
            self._old_ms, self._new_ms = self._new_ms, _UNKNOWN_MS
        self._new_ms = min(self._new_ms, delay_ms)
        self._round_ms = min(self._round_ms, delay_ms)
        self._round_requests += 1
        if self._round_requests >= _ROUND[self._state]:
            self._judge()

    def _is_network_changed(self, duration_ms, carried_kbps):
        """Count requests in a row that took much longer than the rate suggests."""
        late_ms = _LATE_MS >> 1 if self._late else _LATE_MS
        if duration_ms <= (self._request_sent << 3) // self.kbps + late_ms:
            self._late = 0
            return False
        # When the first late request began, the network may still have been as before: its rate does not count.
        self._late_kbps = max(self._late_kbps, carried_kbps) if self._late else 0
        self._late += 1
        return self._late == _LATE_MAX

    def _judge(self):
        kbps, state, good_rounds = self.kbps, self._state, self._good_rounds + 1
        if self._round_ms > min(self._old_ms, self._new_ms) + _QUEUE_MS[state]:
            self._set(min(kbps - (kbps >> 4) - (kbps >> 5), self._best_kbps), _HOLD)
        elif kbps == self._kbps_max:
            self._set(kbps, _HOLD)
        elif state == _HOLD and good_rounds < _HOLD_ROUNDS:
            self._begin_round()
            self._good_rounds = good_rounds
        elif state == _HOLD or (state == _RAISE and good_rounds < _RAISE_ROUNDS):
            self._set(kbps + (kbps >> 5) + 1, _RAISE)
            self._good_rounds = good_rounds if state == _RAISE else 0
        else:
            self._set(kbps + (kbps >> 2) + 1, _SEARCH)

    def _set(self, kbps, state):
        self.kbps = max(min(kbps, self._kbps_max), min(_KBPS_MIN, self._kbps_max))
        self.piece = min(max(self.kbps * _PIECE_MS >> 3, _PIECE_MIN), self._piece_max)
        self._state = _RAISE if state == _SEARCH and self.kbps == self._kbps_max else state
        self._good_rounds = self._late = 0
        self._begin_round()
