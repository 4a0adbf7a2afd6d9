"""UDP socket of the modem, with the interface of compat.udp. Only the constructor waits.

All other calls submit a command to the AT channel and process its outcome at a later call, so they may be made while
a stream of the modem waits. A command of a stream is delayed by one datagram at most.
"""

from patrolink_protocol.native import const

from .at import ERROR, OK, Command, QueueFullError
from .sockets import ECONNREFUSED, ETIMEDOUT, SocketState

_READ_MAX = const(128)  # bytes; a longer datagram is truncated
_ANSWER_MS = const(5000)
_REOPEN_MS = const(3000)  # between two attempts to open
_POLL_MS = const(3000)  # between two reads without a URC, which may have been lost
_SENDS_MAX = const(2)  # datagrams submitted to the AT channel


class ModemUdp(SocketState):
    """Datagrams to and from one peer. The socket is reopened when the modem or the network closed it.

    Args:
        modem: driver.Modem.
        net: compat.stream.Network.
        host: peer, name or address.
        port: port of the peer.

    Attributes:
        id: number of the socket in the modem, None while it has none.
        address: (host, port) of the peer.

    Raises:
        OSError: the modem did not open a socket within the timeout of the network.
    """

    kind = b"UDP"

    def __init__(self, modem, net, host, port):
        super().__init__()
        self._modem = modem
        self._net = net
        self.address = (host, port)
        self._opening = self._reading = self._last = None
        self._sends = []
        self._rx = memoryview(bytearray(_READ_MAX))
        self._reopen_ms = self._poll_ms = 0
        self.id = modem.claim(self)
        self._open()
        if not modem.wait_until(self._is_settled, net.timeout_ms):
            self.close()
            raise OSError(ETIMEDOUT)
        if not self._is_open():
            self.close()
            raise OSError(ECONNREFUSED)

    def _submit(self, text, prefix=None, **more):
        """Submit a command and return it; None if the AT channel is full."""
        try:
            self._last = self._modem.at.submit(Command(text, _ANSWER_MS, prefix, **more))
        except QueueFullError:
            return None
        return self._last

    def _open(self):
        self._open_result = None
        self._pending = self._closed = False
        self._reopen_ms = self._net.now_ms() + _REOPEN_MS
        host, port = self.address
        self._opening = self._submit(self._modem.dialect.open_command(self.id, self.kind, host.encode(), port))

    def _is_settled(self):
        if self._closed or self._open_result is not None:
            return True
        return self._opening is None or self._opening.result not in (None, OK)

    def _is_open(self):
        return self._open_result == 0 and not self._closed

    def ready(self):
        """Return True if a datagram can be sent: the socket is open and no send is in progress."""
        sends = self._sends
        while sends and sends[0].result is not None:
            command = sends.pop(0)
            if command.result == ERROR and not command.buffer_full:
                self._closed = True  # the URC was lost
        if self._is_open():
            return not sends
        self._reopen()
        return False

    def _reopen(self):
        modem = self._modem
        now_ms = self._net.now_ms()
        if now_ms < self._reopen_ms or not modem.pdp or self._last is not None and self._last.result is None:
            return  # no further command while the modem does not answer
        self._reopen_ms = now_ms + _REOPEN_MS
        if self.id is None:
            try:
                self.id = modem.claim(self)
            except OSError:
                return
        self._submit(modem.dialect.CLOSE % self.id)  # the modem may have kept it open
        self._sends = []
        self._reading = None
        self._open()

    def send(self, view):
        """Send a datagram; it is lost if the socket is not ready. `view` must not change until `ready` returns True."""
        if self._is_open() and len(self._sends) < _SENDS_MAX:
            dialect = self._modem.dialect
            command = self._submit(dialect.send_command(self, len(view)), payload=view, final=dialect.SEND_FINAL)
            if command is not None:
                self._sends.append(command)

    def recv_into(self, buf):
        """Return the length of a datagram received into `buf`, 0 if there is none. A longer one is truncated."""
        command = self._reading
        if command is None:
            self._read()
            return 0
        if command.result is None:
            return 0
        self._reading = None
        n = min(command.received, len(buf)) if command.result == OK else 0
        # The modem announces data once, until all of it was read.
        self._pending = self._pending or n > 0
        buf[:n] = self._rx[:n]
        return n

    def _read(self):
        now_ms = self._net.now_ms()
        if not self._is_open() or not self._pending and now_ms < self._poll_ms:
            return
        self._pending = False  # before the command: more data may arrive while it is answered
        self._poll_ms = now_ms + _POLL_MS
        dialect = self._modem.dialect
        text = dialect.RECEIVE % (self.id, _READ_MAX)
        self._reading = self._submit(text, dialect.RECEIVE_PREFIX, payload_length=dialect.payload_length, sink=self._rx)

    def close(self):
        """Close the socket, after the datagrams that were submitted."""
        if self.id is None:
            return
        modem = self._modem
        if modem.ready:
            self._submit(modem.dialect.CLOSE % self.id)
        modem.unclaim(self.id, self)
        self.id = None
        self._closed = True
