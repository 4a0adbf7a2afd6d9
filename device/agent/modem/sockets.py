"""One socket of the modem's, as the raw stream of compat.stream."""

from .at import OK, TIMEOUT

ECONNREFUSED = 111
ECONNRESET = 104
ETIMEDOUT = 110
ENOTCONN = 107
EMFILE = 24
_CHUNK = 512  # of one read; both makers give up to 1500
_SEND = 1024  # of one send; both makers take 1460 and more
_CLOSE_MS = 3000  # the modem is told to give up after one second


class ModemSocket:
    """State is told by URCs: `result` of the opening, `pending` when data waits in the modem, `closed` by the peer."""

    kind = b"TCP"

    def __init__(self, modem, net):
        self._modem = modem
        self._net = net
        self._rx = memoryview(bytearray(_CHUNK))
        self._at = self._n = 0
        self.id = self.address = None
        self.result = None
        self.pending = self.closed = False

    def connect(self, address):
        modem = self._modem
        modem.claim(self)
        host, port = self.address = address
        deadline = self._net.now_ms() + self._net.timeout_ms
        command = modem.run(modem.dialect.open_text(self.id, self.kind, host.encode(), port), self._net.timeout_ms)
        if command.result != OK:
            self.close()
            raise OSError(ECONNREFUSED)
        if not modem.await_(self._opened, deadline - self._net.now_ms()):
            self.close()
            raise OSError(ETIMEDOUT)
        if self.result:
            self.close()
            raise OSError(ECONNREFUSED)

    def _opened(self):
        return self.result is not None or self.closed

    def wait(self, writing):
        self._modem.pump(self._net.slice_ms)

    def send(self, view):
        if self.closed or self.id is None:
            raise OSError(ECONNRESET)
        modem = self._modem
        n = min(len(view), _SEND)
        command = modem.run(
            modem.dialect.send_text(self, n),
            self._net.timeout_ms,
            payload=view[:n],
            final=modem.dialect.SENT,
        )
        if command.result == OK:
            return n
        if command.full:
            return 0
        raise OSError(ECONNRESET)

    def recv_into(self, view):
        if self._at == self._n:
            if not self.pending:
                return 0 if self.closed or self.id is None else None
            self._fetch()
            if not self._n:
                return None
        n = min(len(view), self._n - self._at)
        view[:n] = self._rx[self._at : self._at + n]
        self._at += n
        return n

    def _fetch(self):
        modem = self._modem
        self._at = self._n = 0
        # Cleared first: more may come while this is answered.
        self.pending = False
        dialect = modem.dialect
        command = modem.run(
            dialect.RECEIVE % (self.id, _CHUNK),
            5000,
            dialect.RECEIVED,
            raw=dialect.received,
            sink=self._rx,
        )
        if command.result == TIMEOUT:
            raise OSError(ECONNRESET)
        # A late URC asks for what was read already, which some answer with ERROR. A full read may have left something.
        if command.received == _CHUNK:
            self.pending = True
        self._n = command.received

    def close(self):
        """Let go of it. The modem may be silent: that costs the time of one command."""
        if self.id is None:
            return
        number, self.id = self.id, None
        modem = self._modem
        if modem.ready:
            modem.run(modem.dialect.CLOSE % number, _CLOSE_MS)
        if modem.sockets[number] is self:
            modem.sockets[number] = None
        self.closed = True
