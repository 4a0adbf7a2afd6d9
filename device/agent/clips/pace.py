"""How fast an upload goes: a rate that leaves no queue on the way for voice to stand in. MicroPython subset."""

from patrolink_protocol.native import const

_REQUEST_MS = const(400)
_LEAST = const(16384)  # bytes of a request: its head is 2 % of that
_MOST = const(65536)
_BURST_MS = const(20)  # of the rate, sent in one go at most
_FIRST = const(3)  # requests of one look while the rate is being found
_LOOK = const(8)
_GOOD = const(4)  # looks without a queue, after which the rate is looked for anew
_MEMORY = const(64)  # requests, after which an answer's least delay is found anew
_QUEUE_MS = const(25)
_SLOW = const(4)  # a request that takes so many times what it should: the way is another one now
_SLOWEST = const(8)  # kbit/s
_NEVER = const(0x3FFFFFFF)


class Pace:
    """
    The answer to a request comes when all of it is there: what stood in queues on the way has been carried off by
    then, and the answer's delay tells how long they were, be they in the kernel, in a modem or in the network. A
    single answer is late for other reasons, too; of some, the earliest is looked at.

    kbps   the rate now, in kbit/s, `most` at most
    piece  bytes of one send
    """

    def __init__(self, most, piece):
        self._most = most
        self._piece = piece
        self.kbps = max(most >> 2, min(most, _SLOWEST))
        self._good = _GOOD  # looks without a queue; from _GOOD on the rate is being found
        self.afresh()

    def afresh(self):
        """There is a new connection: its delay is another one."""
        self._old = self._new = self._least = _NEVER
        self._asked = self._looks = 0
        self._tokens = 0
        self._at = self._begun = self._sent = None

    def size(self):
        """Return the bytes of a request that is worth its head, and is answered soon."""
        return max(_LEAST, min(self.kbps * _REQUEST_MS >> 3, _MOST))

    def earn(self, now):
        """Add what the rate allows since the last time. A burst at most, so that no queue grows."""
        piece = self._piece << 3
        if self._at is None:
            self._tokens = piece
        else:
            self._tokens = min(self._tokens + (now - self._at) * self.kbps, self.kbps * _BURST_MS + piece)
        self._at = now

    def may(self, n):
        """Return whether so many bytes may go now."""
        return self._tokens >= n << 3

    def wait_ms(self):
        """Return ms until a piece may go."""
        return max(((self._piece << 3) - self._tokens) // self.kbps, 0) + 1

    def rest(self):
        """Nothing is sent for a while, nor is an answer looked for: this request tells nothing about the way."""
        self._at = self._begun = self._sent = None

    def begin(self, now):
        """A request begins."""
        self._begun = now
        self._sent = None

    def spend(self, n, whole, now):
        """So many bytes went; `whole`: the request has gone with them."""
        self._tokens -= n << 3
        if whole and self._begun is not None:
            self._sent = now

    def answered(self, n, now):
        """The request with its n bytes is at the hub. One with few makes no queue: it tells what the way takes."""
        if self._sent is None:
            return
        delay = now - self._sent
        self._new = min(self._new, delay)
        if n < _LEAST:
            return
        self._least = min(self._least, delay)
        base = min(self._old, self._new)
        took = now - self._begun - base
        if took * self.kbps > _SLOW * n << 3:
            self._good = 0
            self._set((n << 3) // took)
        else:
            self._look(base)
        self._asked += 1
        if self._asked % _MEMORY == 0:
            self._old, self._new = self._new, _NEVER

    def _look(self, base):
        finding = self._good >= _GOOD
        self._looks += 1
        if self._looks < (_FIRST if finding else _LOOK):
            return
        if self._least <= base + _QUEUE_MS:
            self._good += 1
            self._set(self.kbps + (self.kbps >> (2 if finding else 4)) + 1)
        else:
            self._good = 0
            self._set(self.kbps - (self.kbps >> (2 if finding else 3)))

    def _set(self, kbps):
        self.kbps = max(min(kbps, self._most), min(_SLOWEST, self._most))
        self._looks = 0
        self._least = _NEVER
