"""TCP socket of the modem, as a raw stream of compat.stream."""

from patrolink_protocol.native import const

from .at import OK, TIMEOUT, URC_CLOSED, URC_DATA

ECONNREFUSED = 111
ECONNRESET = 104
ETIMEDOUT = 110
ENOTCONN = 107
EMFILE = 24
_READ_MAX = const(512)  # bytes; both manufacturers allow 1500
_SEND_MAX = const(1024)  # bytes; both manufacturers allow 1460
_READ_MS = const(5000)
_CLOSE_MS = const(3000)  # longer than the second that the modem is given


class SocketState:
    """State of a socket in the modem, changed by URCs."""

    def __init__(self):
        self.id = None
        self._open_result = None
        self._pending = self._closed = False  # data waits in the modem; closed by the peer or lost

    def on_urc(self, kind, value):
        """Process a URC for this socket; `value` is the result of URC_OPENED, 0 for success."""
        if kind == URC_DATA:
            self._pending = True
        elif kind == URC_CLOSED:
            self._closed = True
        else:
            self._open_result = value


class ModemSocket(SocketState):
    """Implements the raw stream of `compat.stream` with AT commands. Every call waits for the modem's answer.

    Args:
        modem: driver.Modem.
        net: compat.stream.Network.

    Attributes:
        id: number of the socket in the modem, None while it has none.
        address: (host, port) of the peer.
    """

    kind = b"TCP"

    def __init__(self, modem, net):
        super().__init__()
        self._modem = modem
        self._net = net
        self._rx = memoryview(bytearray(_READ_MAX))
        self._at = self._n = 0
        self.address = None

    def connect(self, address):
        """Open the socket.

        Raises:
            OSError: the modem has no data context or socket left, or the peer refused or did not answer.
        """
        modem = self._modem
        self.id = modem.claim(self)
        host, port = self.address = address
        deadline_ms = self._net.now_ms() + self._net.timeout_ms
        command = modem.run(modem.dialect.open_command(self.id, self.kind, host.encode(), port), self._net.timeout_ms)
        if command.result != OK:
            self.close()
            raise OSError(ECONNREFUSED)
        if not modem.wait_until(self._is_settled, deadline_ms - self._net.now_ms()):
            self.close()
            raise OSError(ETIMEDOUT)
        if self._open_result:
            self.close()
            raise OSError(ECONNREFUSED)

    def _is_settled(self):
        return self._open_result is not None or self._closed

    def wait(self, writing):
        """Wait for the modem, at most a slice of the network's time."""
        self._modem.poll(self._net.slice_ms)

    def send(self, view):
        """Send up to 1024 bytes; return how many, 0 if the send buffer of the modem is full.

        Raises:
            OSError: the connection is lost.
        """
        if self._closed or self.id is None:
            raise OSError(ECONNRESET)
        dialect = self._modem.dialect
        n = min(len(view), _SEND_MAX)
        command = self._modem.run(
            dialect.send_command(self, n), self._net.timeout_ms, payload=view[:n], final=dialect.SEND_FINAL
        )
        if command.result == OK:
            return n
        if command.buffer_full:
            return 0
        raise OSError(ECONNRESET)

    def recv_into(self, view):
        """Receive into `view`; return how many bytes, None if there are none yet, 0 at the end of the stream.

        Raises:
            OSError: the modem does not answer.
        """
        if self._at == self._n:
            if not self._pending:
                return 0 if self._closed or self.id is None else None
            self._read()
            if not self._n:
                return None
        n = min(len(view), self._n - self._at)
        view[:n] = self._rx[self._at : self._at + n]
        self._at += n
        return n

    def _read(self):
        self._at = self._n = 0
        self._pending = False  # before the command: more data may arrive while it is answered
        dialect = self._modem.dialect
        command = self._modem.run(
            dialect.RECEIVE % (self.id, _READ_MAX),
            _READ_MS,
            dialect.RECEIVE_PREFIX,
            payload_length=dialect.payload_length,
            sink=self._rx,
        )
        if command.result == TIMEOUT:
            raise OSError(ECONNRESET)
        # ERROR is no failure: a late URC may announce data that was read already, which some modems answer so.
        if command.received == _READ_MAX:
            self._pending = True  # there may be more
        self._n = command.received

    def close(self):
        """Close the socket. If the modem does not answer, this takes 3 s."""
        if self.id is None:
            return
        number, self.id = self.id, None
        modem = self._modem
        if modem.ready:
            modem.run(modem.dialect.CLOSE % number, _CLOSE_MS)
        modem.unclaim(number, self)
        self._closed = True
