"""How fast an upload goes: a rate that leaves no queue on the way for voice to stand in. MicroPython subset.

As LEDBAT (RFC 6817): the delay is held to the least that there was lately, and more than a little over it is a queue.
LEDBAT sees the delay of each packet; here one request is followed by one answer, so what LEDBAT does in a round trip
takes some requests.
"""

from patrolink_protocol.native import const

# What is done with the rate: it is held, it rises a little to see whether the way carries more, it is being found.
_HOLD, _RISE, _FIND = range(3)
_REQUEST_MS = (3000, 800, 400)  # between two requests the way is idle for a round trip, so long ones use more of it
_LOOK = (8, 4, 4)  # requests that are looked at together
_QUEUE_MS = (25, 25, 60)  # over the least delay, that a request may leave behind
_HELD = const(3)  # looks without a queue until the rate rises: while it does, voice may meet a queue
_RISEN = const(5)  # rises without a queue after which the rate is being found
_MEMORY = const(16)  # requests, after which an answer's least delay is found anew
_LEAST = const(16384)  # bytes of a request: its head is 2 % of that
_MOST = const(524288)  # a web server takes 1 MB at once if nobody told it otherwise
_PIECE_MS = const(40)  # of the rate
_PIECE = const(256)  # bytes, to which headers add a quarter
_HEADERS = const(72)  # bytes a piece: of IPv6, and of TCP with its time stamps
_BURST_MS = const(20)  # of the rate, sent in one go at most
_WINDOW_MS = const(2000)
_SLOW_MS = const(1000)  # that a request may take more than its rate says
_SLOW = const(3)  # requests that took more, one after the other: the way is another one now
_SLOWEST = const(8)  # kbit/s
_NEVER = const(0x3FFFFFFF)


class RateController:
    """
    The answer to a request comes when all of it is there: what stood in queues on the way has been carried off by
    then, and the answer's delay tells how long they were, be they in the kernel, in a modem or in the network. A
    single answer is late for other reasons, too; of some, the earliest is looked at.

    kbps   the rate now, in kbit/s with headers, `most` at most
    piece  bytes of one send now, `largest` at most: voice waits until one has gone
    """

    def __init__(self, most, largest):
        self._most = most
        self._largest = largest
        self._state = _FIND
        self._good = 0  # looks without a queue in this state
        self._set(most >> 2, _FIND)
        self.afresh()

    def afresh(self):
        """There is a new connection: its delay is another one."""
        self._base = _NEVER  # least delay of all requests: of those with few bytes, too
        self._old = self._new = _NEVER  # least delay of large ones, whose last bytes wait for all before them
        self._asked = self._tokens = self._slow = 0
        self.rest()
        self._anew()

    def _anew(self):
        """Begin a look."""
        self._looks = self._best = 0
        self._least = _NEVER

    def size(self):
        """Return the bytes of a request that is worth its head, and is answered soon."""
        ms = _REQUEST_MS[_FIND if self._slow else self._state]
        return max(_LEAST, min(self.kbps * ms >> 3, _MOST))

    def earn(self, now):
        """Add what the rate allows since the last time. A burst at most, so that no queue grows."""
        piece = self.piece + _HEADERS << 3
        if self._at is None:
            self._tokens = piece
        else:
            self._tokens = min(self._tokens + (now - self._at) * self.kbps, self.kbps * _BURST_MS + piece)
        self._at = now
        if self._begun is None:
            self.begin(now)
        if now - self._since >= _WINDOW_MS:
            self._look_back(now)

    def may(self, n):
        """Return whether so many bytes may go now."""
        return self._tokens >= n + _HEADERS << 3

    def wait_ms(self):
        """Return ms until a piece may go."""
        return max(((self.piece + _HEADERS << 3) - self._tokens) // self.kbps, 0) + 1

    def rest(self):
        """Nothing is sent for a while, nor is an answer looked for: what went before tells nothing about the way."""
        self._at = self._begun = self._sent = None

    def begin(self, now):
        """A request begins."""
        self._begun = self._since = now
        self._sent = None
        self._n = self._part = 0
        self._full = False

    def spend(self, n, whole, now):
        """So many bytes went, 0 when the connection takes none; `whole`: the request has gone with them."""
        if not n:
            self._full = True
            return
        n += _HEADERS
        self._tokens -= n << 3
        self._n += n
        self._part += n
        if whole and self._begun is not None:
            self._sent = now

    def _look_back(self, now):
        """A large request is long under way where the way has become slow: do not wait for its answer."""
        carried = (self._part << 3) // (now - self._since)
        self._since = now
        # Nothing at all is an outage, and no word on the way.
        if self._full and self._sent is None and 0 < carried < self.kbps >> 2:
            self._set(max(carried - (carried >> 3), self.kbps >> 3), _HOLD)
            self._tokens = -self.kbps * _WINDOW_MS  # what stands in the connection goes first
            self._since += _WINDOW_MS
        self._part = 0
        self._full = False

    def answered(self, now):
        """The request is at the hub. One with few bytes makes no queue: it tells what the way takes."""
        if self._sent is None:
            return
        delay = now - self._sent
        self._base = min(self._base, delay)
        if self._n < self.size() >> 1:
            return
        took = max(now - self._begun - self._base, 1)
        carried = (self._n << 3) // took
        if took <= (self._n << 3) // self.kbps + (_SLOW_MS >> 1 if self._slow else _SLOW_MS):
            self._slow = 0
        else:
            # When the first of them began, the way may still have been as it was.
            self._carried = max(self._carried, carried) if self._slow else 0
            self._slow += 1
            if self._slow == _SLOW:
                self._base = self._old = self._new = _NEVER
                self._set(self._carried - (self._carried >> 3), _HOLD)
                return
        self._best = max(self._best, carried)
        self._asked += 1
        if self._asked % _MEMORY == 0:
            self._old, self._new = self._new, _NEVER
        self._new = min(self._new, delay)
        self._least = min(self._least, delay)
        self._looks += 1
        if self._looks >= _LOOK[self._state]:
            self._judge()

    def _judge(self):
        kbps, state, good = self.kbps, self._state, self._good + 1
        if self._least > min(self._old, self._new) + _QUEUE_MS[state]:
            self._set(min(kbps - (kbps >> 4) - (kbps >> 5), self._best), _HOLD)
        elif kbps == self._most:
            self._set(kbps, _HOLD)
        elif state == _HOLD and good < _HELD:
            self._anew()
            self._good = good
        elif state == _HOLD or state == _RISE and good < _RISEN:
            self._set(kbps + (kbps >> 5) + 1, _RISE)
            self._good = good if state == _RISE else 0
        else:
            self._set(kbps + (kbps >> 2) + 1, _FIND)

    def _set(self, kbps, state):
        self.kbps = max(min(kbps, self._most), min(_SLOWEST, self._most))
        self.piece = min(max(self.kbps * _PIECE_MS >> 3, _PIECE), self._largest)
        self._state = _RISE if state == _FIND and self.kbps == self._most else state
        self._good = self._slow = 0
        self._anew()
