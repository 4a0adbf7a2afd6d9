"""The socket facade under umqtt: one stream for boards with a network stack and boards with a modem.

What umqtt.simple leaves out is here. Small writes are gathered into one send, which Nagle's algorithm and delayed
acknowledgements would otherwise make 45 ms each. Every wait has a deadline. While it waits it calls `idle`, so the
receiver's bytes are taken even when the network hangs.

Under a stream lies a raw stream; `compat.netsock`, `agent.modem.sockets` and `compat.tls` have one each:

    connect((host, port))   OSError when refused or not answered in the network's time
    wait(writing)           up to a slice, until it can be written to, or read from; OSError when the peer has reset it
    send(view) -> n         how much of it was taken, 0 for none now
    recv_into(view) -> n    None when nothing has come, 0 when the peer has closed
    close()
"""

ETIMEDOUT = 110
ECONNRESET = 104
EMSGSIZE = 90


class Refused(OSError):
    """The peer answered, and does not want us, or is not to be trusted: no remedy of the way there would help."""


class Network:
    """Stands in for the `socket` module that umqtt imports.

    now_ms()    monotonic milliseconds
    idle()      called at least every 20 ms of waiting; must not use this network
    raw         function(network) -> raw stream
    timeout_ms  for connecting and for each read or send as a whole
    limit       most bytes of one read or one gathered send; one stream at a time gathers

    The buffers are taken once: after days on a small heap there may be no second ones.
    """

    def __init__(self, now_ms, idle, raw, timeout_ms=10000, limit=1152):
        self.now_ms = now_ms
        self.idle = idle
        self.raw = raw
        self.timeout_ms = timeout_ms
        self.slice_ms = 20  # of waiting, after which `idle` is called; voice and work in steps want it shorter
        self.limit = limit
        self.out = memoryview(bytearray(limit))
        self.out_n = 0
        self.inward = memoryview(bytearray(limit))
        self.last_rx_ms = now_ms()
        self.bytes_sent = 0
        self.bug = None

    def set_slice(self, slice_ms):
        """Set the ms of waiting after which `idle` is called."""
        self.slice_ms = slice_ms

    def serve(self):
        """Call `idle`. What it raises is kept as `bug`, so that nobody takes it for a fault of the peer's."""
        try:
            self.idle()
        except Exception as e:
            self.bug = e
            raise

    def await_(self, raw, writing, deadline):
        """Wait a slice for the raw stream, serve, and raise OSError once it is the deadline."""
        raw.wait(writing)
        self.serve()
        if self.now_ms() >= deadline:
            raise OSError(ETIMEDOUT)

    def socket(self):
        """Return a new, unconnected stream."""
        self.out_n = 0
        return Stream(self)

    def getaddrinfo(self, host, port):
        """Names are resolved by the raw stream."""
        return ((0, 0, 0, "", (host, port)),)


class Stream:
    """A stream with deadlines. Methods are those umqtt calls, plus `flush`."""

    def __init__(self, net):
        self._net = net
        self._raw = net.raw(net)
        self._blocking = True

    def connect(self, address):
        """Open the connection; OSError when refused or not answered in time."""
        self._raw.connect(address)
        self._net.last_rx_ms = self._net.now_ms()

    def setblocking(self, flag):
        """False: the next `read` returns None when nothing has come."""
        self._blocking = flag

    def write(self, data, n=None):
        """Gather; sent by the next `read` or `flush`."""
        net = self._net
        n = len(data) if n is None else n
        end = net.out_n + n
        if end > net.limit:
            raise OSError(EMSGSIZE)
        net.out[net.out_n : end] = data if n == len(data) else memoryview(data)[:n]
        net.out_n = end

    def flush(self):
        """Send what was gathered."""
        net = self._net
        at = 0
        deadline = net.now_ms() + net.timeout_ms
        while at < net.out_n:
            n = self._raw.send(net.out[at : net.out_n])
            at += n
            if not n:
                net.await_(self._raw, True, deadline)
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
        got = 0
        deadline = net.now_ms() + net.timeout_ms
        while got < n:
            part = self._raw.recv_into(net.inward[got:n])
            if part:
                got += part
                continue
            if part is None:
                if not self._blocking and not got:
                    return None
                net.await_(self._raw, False, deadline)
            elif got:
                raise OSError(ECONNRESET)
            else:
                return b""
        net.last_rx_ms = net.now_ms()
        return bytes(net.inward[:n])

    def close(self):
        """Send what is left if the peer takes it at once, and close."""
        net = self._net
        try:
            if net.out_n:
                self._raw.send(net.out[: net.out_n])
        except OSError:
            pass
        net.out_n = 0
        self._raw.close()
