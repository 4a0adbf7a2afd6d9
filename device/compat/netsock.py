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
    limit       most bytes of one read or one gathered send; one stream at a time gathers

    The gather buffer is taken once: after days on a small heap there may be no second one.
    """

    def __init__(self, now_ms, idle, timeout_ms=10000, limit=1152):
        self.now_ms = now_ms
        self.idle = idle
        self.timeout_ms = timeout_ms
        self.limit = limit
        self.out = bytearray(limit)
        self.out_view = memoryview(self.out)
        self.out_n = 0
        self.last_rx_ms = now_ms()
        self.bytes_sent = 0
        self.bug = None

    def serve(self):
        """Call `idle`. What it raises is kept as `bug`, so that nobody takes it for a fault of the peer's."""
        try:
            self.idle()
        except Exception as e:
            self.bug = e
            raise

    def socket(self):
        """Return a new, unconnected stream."""
        self.out_n = 0
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
            net.serve()
            if net.now_ms() >= deadline:
                raise OSError(ETIMEDOUT)

    def write(self, data, n=None):
        """Gather; sent by the next `read` or `flush`."""
        net = self._net
        n = len(data) if n is None else n
        end = net.out_n + n
        if end > net.limit:
            raise OSError(EMSGSIZE)
        net.out_view[net.out_n : end] = data if n == len(data) else memoryview(data)[:n]
        net.out_n = end

    def flush(self):
        """Send what was gathered."""
        net = self._net
        at = 0
        while at < net.out_n:
            if self._wait(select.POLLOUT) & (select.POLLERR | select.POLLHUP):
                raise OSError(ECONNRESET)
            try:
                at += self._sock.send(net.out_view[at : net.out_n])
            except OSError as e:
                if e.errno != EAGAIN:
                    raise
        net.bytes_sent += at
        net.out_n = 0

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
            if self._net.out_n:
                self._sock.send(self._net.out_view[: self._net.out_n])
        except OSError:
            pass
        self._sock.close()
