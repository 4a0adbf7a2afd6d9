"""Clips on their way to the hub: which file, over which connection, how fast. MicroPython subset.

It is stepped from the main loop, sends little at a time, and makes way: for voice, and for an event that waits.
"""

from agent.upload.rate_control import RateController
from agent.upload.tus import HttpError, HttpResponse, Transfer, UploadRejectedError
from compat.stream import Network
from patrolink_protocol.native import const

BUFFER = const(1024)  # bytes of one send, and of one read
_SENDS = const(4)  # of one step
_STEP_MS = const(5)
_SLICE_MS = const(5)  # of waiting, for the voice that goes on meanwhile
_ANSWER_MS = const(10)
_QUIET_MS = const(2000)  # after voice
_LOOK_MS = const(1000)  # for a file to send
_SILENCE_MS = const(30000)  # until the hub is given up
_OPEN_MS = const(5000)  # for a connection, with its TLS
_ASIDE_MS = const(3600000)  # a file that this hub does not take
_ASIDES = const(32)
_ECANCELED = const(125)
_ECONNRESET = const(104)
_ETIMEDOUT = const(110)
_EIO = const(5)


class UploadNetwork(Network):
    """The connection's buffers and deadlines. Where it has to wait, it ends as soon as `makes_way()`."""

    def __init__(self, now_ms, idle, raw, makes_way):
        Network.__init__(self, now_ms, idle, raw, _OPEN_MS, BUFFER)
        self.slice_ms = _SLICE_MS
        self.makes_way = makes_way

    def await_(self, raw, writing, deadline):
        Network.await_(self, raw, writing, deadline)
        if self.makes_way():
            raise OSError(_ECANCELED)


class Uploader:
    """
    shelf    agent.recording.clip_store.Shelf
    client   agent.upload.tus.Client
    net      Way
    address  (host, port)
    kbps     never faster than this, in kbit/s; slower where the way is (agent.upload.rate_control)
    unix     function(monotonic ms) -> unix ms, 0 when not known
    backoff  agent.link.backoff.Backoff
    faults   what a connection may raise
    """

    def __init__(self, shelf, client, net, address, kbps, unix, backoff, log, faults=(OSError,)):
        self._shelf = shelf
        self._client = client
        self._net = net
        self._address = address
        self.pace = RateController(kbps, BUFFER)
        self._unix = unix
        self._backoff = backoff
        self._log = log
        self._faults = tuple(faults) + (HttpError,)
        self._raw = self._transfer = self._reply = None
        self._head = b""  # of the request, what is left of it
        self._at = self._end = 0  # of the file, what is left of the request's body
        self._out = self._out_n = 0  # of the buffer, what is left of it
        self._n = 0  # bytes of the request's body
        self._quiet_ms = None  # until when voice wants the way for itself
        self._retry_ms = self._heard_ms = 0
        self._aside = {}
        self.sent = 0  # bytes given to the connection
        self.files = 0  # that are at the hub since the boot

    def hurry(self, sos=False):
        """There is something new: do not sit out the look for it, nor a back-off when it is of an SOS."""
        if sos or self._transfer is None:
            self._retry_ms = 0

    def step(self, now, busy, urgent):
        """Do a little; return ms until more is due. busy: somebody speaks; urgent: an event waits."""
        if busy:
            self._quiet_ms = now + _QUIET_MS
        if urgent or (self._quiet_ms is not None and now < self._quiet_ms):
            self.pace.rest()
            self._heard_ms = now  # it is we who are silent
            return _LOOK_MS if urgent or busy else self._quiet_ms - now
        self._quiet_ms = None
        if now < self._retry_ms:
            return self._retry_ms - now
        try:
            return self._go_on(now)
        except UploadRejectedError as e:
            self._put_aside(e, now)
        except self._faults as e:
            if e is self._net.bug:
                raise
            if e.args[:1] == (_ECANCELED,):
                self._log("clips: upload makes way for an event")
                self.hang_up()
            else:
                self._failed(e)
        return 0

    def _go_on(self, now):
        if self._transfer is None and not self._choose():
            self.hang_up()
            self._retry_ms = now + _LOOK_MS
            return _LOOK_MS
        unix_ms = self._unix(now)
        if self._reply is None:
            if not unix_ms:
                return _LOOK_MS  # no request is believed without the time
            if self._raw is None:
                self._open()
            self._ask(unix_ms)
        self.pace.earn(now)
        self._send()
        self._receive(now)
        if now - self._heard_ms > _SILENCE_MS:
            raise OSError(_ETIMEDOUT)
        return _ANSWER_MS if self._whole() else max(_STEP_MS, min(self.pace.wait_ms(), _ANSWER_MS))

    def _choose(self):
        """Take the most important file; False when there is none."""
        for item in self._shelf.pending():
            until = self._aside.get((item.clip, item.name))
            if until is None or self._net.now_ms() >= until:
                self._transfer = Transfer(self._client, item, self._shelf.place(item.clip, item.name))
                return True
        return False

    def _open(self):
        raw = self._net.raw(self._net)
        self._raw = raw
        raw.connect(self._address)
        self.pace.afresh()

    def _ask(self, unix_ms):
        transfer = self._transfer
        method, head, n = transfer.ask(unix_ms, self.pace.size())
        self._head = memoryview(head)
        self._at = transfer.offset
        self._end = transfer.offset + n
        self._n = n
        self._out = self._out_n = 0
        self._reply = HttpResponse(method)
        self._heard_ms = self._net.now_ms()
        self.pace.begin(self._heard_ms)

    def _whole(self):
        """Whether all of the request has gone."""
        return not len(self._head) and self._at == self._end and self._out == self._out_n

    def _send(self):
        for _ in range(_SENDS):
            head = len(self._head) > 0
            if not head and self._out == self._out_n and not self._fill():
                return
            n = self.pace.piece
            piece = self._head[:n] if head else self._net.out[self._out : min(self._out + n, self._out_n)]
            if not self.pace.may(len(piece)):
                return
            n = self._raw.send(piece)
            now = self._net.now_ms()
            if not n:
                self.pace.spend(0, False, now)
                return
            if head:
                self._head = self._head[n:]
            else:
                self._out += n
            self.sent += n
            self._heard_ms = now  # the way takes something: it lives
            self.pace.spend(n, self._whole(), now)

    def _fill(self):
        """Take the next bytes of the file into the buffer; False when the request is whole."""
        n = min(self._end - self._at, BUFFER)
        if not n:
            return False
        if self._shelf.read(self._transfer.item.name, self._at, self._net.out[:n]) != n:
            raise OSError(_EIO)
        self._at += n
        self._out, self._out_n = 0, n
        return True

    def _receive(self, now):
        n = self._raw.recv_into(self._net.inward)
        if n is None:
            return
        if not n:
            raise OSError(_ECONNRESET)
        self._heard_ms = now
        reply = self._reply
        reply.take(self._net.inward[:n])
        if not reply.done:
            return
        self._reply = None
        if not reply.keep or not self._whole():
            self.hang_up()  # it answered before it had all: the rest would be taken for a request
        self._take(reply, now)

    def _take(self, reply, now):
        transfer = self._transfer
        item = transfer.item
        before = transfer.offset
        wait = transfer.take(reply)
        if transfer.created:
            transfer.created = False
            self._shelf.place(item.clip, item.name, transfer.url)
        if transfer.offset == before + self._n:
            self.pace.answered(now)
        if transfer.offset > before or transfer.done:
            self._backoff.reset()
        if wait:
            wait = self._backoff.next_ms() if wait < 0 else wait
            self._log("clips: the hub answers %d for %s; again in %d ms" % (reply.status, item.name, wait))
            self.hang_up()
            self._retry_ms = now + wait
        if transfer.done:
            self._shelf.uploaded(item.clip, item.name)
            self.files += 1
            self._transfer = None
        elif not item.sos and not wait:
            self._prefer()

    def _prefer(self):
        """Leave the file for now when one of an SOS has come; its address is kept."""
        for item in self._shelf.pending():
            if item.sos and (item.clip, item.name) not in self._aside:
                self._transfer = None
            return

    def _put_aside(self, error, now):
        item = self._transfer.item
        self._log("clips: %s of clip %d does not go: %s; again in an hour" % (item.name, item.clip, error))
        if len(self._aside) >= _ASIDES:
            self._aside.pop(min(self._aside, key=self._aside.get))
        self._aside[(item.clip, item.name)] = now + _ASIDE_MS
        self._transfer = None
        self.hang_up()

    def _failed(self, error):
        wait = self._backoff.next_ms()
        text = str(error) or type(error).__name__
        self._log("clips: upload stopped (%s); again in %d ms" % (text, wait))
        self.hang_up()
        self._retry_ms = self._net.now_ms() + wait

    def hang_up(self):
        """Let go of the connection; the file goes on at the byte that the hub has."""
        raw, self._raw = self._raw, None
        self._reply = None
        self._head = b""
        if self._transfer is not None:
            self._transfer.lost()
        if raw is not None:
            try:
                raw.close()
            except self._faults:
                pass
