"""Datagrams through the modem, behind the facade of compat.udp: only its opening waits.

Everything else leaves a command with the AT channel and looks after it at the next call, so it may be called from
inside a wait of the streams beside it; a command of theirs stands behind one datagram at most.
"""

from .at import ERROR, OK, Command, QueueFull
from .sockets import ECONNREFUSED, ETIMEDOUT

_ROOM = 128  # of one that comes; a longer one is cut off
_ANSWER_MS = 5000
_AGAIN_MS = 3000  # between two openings
_LOOK_MS = 3000  # without a URC, which the line may have lost
_UNDER_WAY = 2  # datagrams


class ModemUdp:
    """Datagrams to one peer and from it. It opens itself again when the modem or its carrier took it away.

    OSError when the modem gives no socket, in the network's time. What the modem's URCs tell: see ModemSocket.
    """

    kind = b"UDP"

    def __init__(self, modem, net, host, port):
        self._modem = modem
        self._net = net
        self.address = (host, port)
        self.id = self.result = self._opening = self._reading = self._last = None
        self.pending = self.closed = False
        self._under_way = []
        self._rx = memoryview(bytearray(_ROOM))
        self._again_ms = self._look_ms = 0
        modem.claim(self)
        self._open()
        if not modem.await_(self._settled, net.timeout_ms):
            self.close()
            raise OSError(ETIMEDOUT)
        if not self._is_open():
            self.close()
            raise OSError(ECONNREFUSED)

    def _later(self, text, prefix=None, **more):
        """Leave a command with the channel; None when it has no room."""
        try:
            self._last = self._modem.at.submit(Command(text, _ANSWER_MS, prefix, **more))
        except QueueFull:
            return None
        return self._last

    def _open(self):
        self.result = None
        self.pending = self.closed = False
        self._again_ms = self._net.now_ms() + _AGAIN_MS
        host, port = self.address
        self._opening = self._later(self._modem.dialect.open_text(self.id, self.kind, host.encode(), port))

    def _settled(self):
        """Told whether it is open."""
        return self.closed or self.result is not None or self._opening is None or self._opening.result not in (None, OK)

    def _is_open(self):
        return self.result == 0 and not self.closed

    def ready(self):
        """True when a datagram can go: it is open, and the one before is with the modem."""
        under_way = self._under_way
        while under_way and under_way[0].result is not None:
            command = under_way.pop(0)
            if command.result == ERROR and not command.full:
                self.closed = True  # without a URC that told it
        if self._is_open():
            return not under_way
        self._mend()
        return False

    def _mend(self):
        modem = self._modem
        now = self._net.now_ms()
        if now < self._again_ms or not modem.pdp or self._last is not None and self._last.result is None:
            return  # a modem that does not answer is asked nothing more
        self._again_ms = now + _AGAIN_MS
        if self.id is None:
            try:
                modem.claim(self)
            except OSError:
                return
        self._later(modem.dialect.CLOSE % self.id)  # the modem may still have it
        self._under_way = []
        self._reading = None
        self._open()

    def send(self, view):
        """Send a datagram, or lose it. Its bytes have to hold until it is `ready` again."""
        if self._is_open() and len(self._under_way) < _UNDER_WAY:
            dialect = self._modem.dialect
            command = self._later(dialect.send_text(self, len(view)), payload=view, final=dialect.SENT)
            if command is not None:
                self._under_way.append(command)

    def recv_into(self, buf):
        """Return the length of a datagram that was put into `buf`, 0 for none. One that is longer is cut off."""
        command = self._reading
        if command is None:
            self._read()
            return 0
        if command.result is None:
            return 0
        self._reading = None
        n = min(command.received, len(buf)) if command.result == OK else 0
        # Makers tell of what has come once, until all of it was read.
        self.pending = self.pending or n > 0
        buf[:n] = self._rx[:n]
        return n

    def _read(self):
        now = self._net.now_ms()
        if not self._is_open() or not self.pending and now < self._look_ms:
            return
        self.pending = False  # first: more may come while this is answered
        self._look_ms = now + _LOOK_MS
        dialect = self._modem.dialect
        text = dialect.RECEIVE % (self.id, _ROOM)
        self._reading = self._later(text, dialect.RECEIVED, raw=dialect.received, sink=self._rx)

    def close(self):
        """Let go of it. What was sent goes before the modem is told."""
        if self.id is None:
            return
        modem = self._modem
        if modem.ready:
            self._later(modem.dialect.CLOSE % self.id)
        if modem.sockets[self.id] is self:
            modem.sockets[self.id] = None
        self.id = None
        self.closed = True
