"""The socket facade under umqtt: the same stream on both runtimes.

What umqtt.simple leaves out is here. Small writes are gathered into one send, which Nagle's algorithm and delayed
acknowledgements would otherwise make 45 ms each. Every wait has a deadline. While it waits it calls `idle`, so the
receiver's bytes are taken even when the network hangs.
"""

import select
import socket

EAGAIN = 11
EINPROGRESS = 115
ETIMEDOUT = 110
ECONNRESET = 104
EMSGSIZE = 90
_IPPROTO_TCP = 6
_TCP_NODELAY = 1
_SLICE_MS = 20


class Network:
    """Stands in for the `socket` module that umqtt imports.

    now_ms()    monotonic milliseconds
    idle()      called at least every 20 ms of waiting; must not use this network
    timeout_ms  for connecting and for each read or send as a whole
    limit       most bytes of one read or one gathered send
    """

    def __init__(self, now_ms, idle, timeout_ms=10000, limit=4096):
        self.now_ms = now_ms
        self.idle = idle
        self.timeout_ms = timeout_ms
        self.limit = limit
        self.last_rx_ms = now_ms()
        self.bytes_sent = 0

    def socket(self):
        """Return a new, unconnected stream."""
        return Stream(self)

    def getaddrinfo(self, host, port):
        """Resolve; blocks in the platform's resolver unless `host` is an address."""
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)


class Stream:
    """A TCP stream with deadlines. Methods are those umqtt calls, plus `flush`."""

    def __init__(self, net):
        self._net = net
        self._sock = socket.socket()
        self._poll = select.poll()
        self._out = bytearray()
        self._blocking = True

    def connect(self, address):
        """Open the connection; OSError when refused or not answered in time."""
        self._sock.setblocking(False)
        try:
            self._sock.connect(address)
        except OSError as e:
            if e.errno != EINPROGRESS:
                raise
        self._poll.register(self._sock, select.POLLOUT)
        if self._wait(select.POLLOUT) & (select.POLLERR | select.POLLHUP):
            raise OSError(ECONNRESET)
        self._sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        self._net.last_rx_ms = self._net.now_ms()

    def setblocking(self, flag):
        """False: the next `read` returns None when nothing has come."""
        self._blocking = flag

    def _wait(self, event):
        """Return poll's events once `event`, an error or a hang-up is there; OSError at the deadline."""
        net = self._net
        deadline = net.now_ms() + net.timeout_ms
        self._poll.modify(self._sock, event)
        while True:
            ready = self._poll.poll(_SLICE_MS)
            if ready:
                return ready[0][1]
            net.idle()
            if net.now_ms() >= deadline:
                raise OSError(ETIMEDOUT)

    def write(self, data, n=None):
        """Gather; sent by the next `read` or `flush`."""
        out = self._out
        if len(out) + len(data) > self._net.limit:
            raise OSError(EMSGSIZE)
        out.extend(data if n is None else memoryview(data)[:n])

    def flush(self):
        """Send what was gathered."""
        out = self._out
        if not out:
            return
        view = memoryview(out)
        at = 0
        while at < len(out):
            if self._wait(select.POLLOUT) & (select.POLLERR | select.POLLHUP):
                raise OSError(ECONNRESET)
            try:
                sent = self._sock.send(view[at:])
            except OSError as e:
                if e.errno != EAGAIN:
                    raise
                continue
            at += sent
        self._net.bytes_sent += at
        self._out = bytearray()

    def read(self, n):
        """Return exactly n bytes; None when not blocking and none are there; b"" when the peer has closed.

        OSError when the peer goes away in the middle, does not finish in time, or n is above the limit.
        """
        net = self._net
        if n > net.limit:
            raise OSError(EMSGSIZE)
        self.flush()
        got = b""
        while len(got) < n:
            try:
                part = self._sock.recv(n - len(got))
            except OSError as e:
                if e.errno != EAGAIN:
                    raise
                if not self._blocking and not got:
                    return None
                self._wait(select.POLLIN)
                continue
            if not part:
                if got:
                    raise OSError(ECONNRESET)
                return part
            got = got + part if got else part
        net.last_rx_ms = net.now_ms()
        return got

    def close(self):
        """Send what is left if the peer takes it at once, and close."""
        try:
            if self._out:
                self._sock.send(self._out)
        except OSError:
            pass
        self._sock.close()
