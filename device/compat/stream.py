"""Socket replacement for umqtt: the same stream on boards with a network stack and boards with a modem.

It adds what umqtt.simple lacks. Small writes are collected into one send; otherwise Nagle's algorithm and delayed
acknowledgements would cost 45 ms each. Every wait has a deadline. While waiting, the stream calls `idle`, so the bytes
of the GPS receiver are read even if the network hangs.

A stream uses a raw stream, of which `compat.netsock`, `agent.modem.sockets` and `compat.tls` have one each:

    connect((host, port))   OSError if refused or not answered within the timeout of the network
    wait(writing)           waits for at most a slice until writable or readable; OSError if the peer reset the stream
    send(view) -> n         number of bytes accepted, 0 for none now
    recv_into(view) -> n    None if no bytes are available, 0 if the peer has closed the stream
    close()
"""

ETIMEDOUT = 110
ECONNRESET = 104
EMSGSIZE = 90


class PeerRefusedError(OSError):
    """The peer answered and refused the connection, or is not trusted: repairing the network would not help."""


class Network:
    """Time, waiting and buffers of the streams of one connection.

    The buffers are allocated once: after days on a small heap there may be no free block of their size.

    Args:
        now_ms: Function that returns monotonic milliseconds.
        idle: Function called after each slice of waiting. It must not use this network.
        timeout_ms: For connecting, and for each read or send as a whole.
        slice_ms: Longest wait without a call of `idle`.
        limit: Maximum bytes of one read or one collected send. Only one stream at a time collects.

    Attributes:
        last_rx_ms: Time of the last bytes received.
        served_ms: Time of the last call of `idle`.
        bytes_sent: Bytes sent over all streams.
        bug: Exception that `idle` raised, or None.
    """

    def __init__(self, now_ms, idle, timeout_ms=10000, slice_ms=20, limit=1152):
        self.now_ms = now_ms
        self.idle = idle
        self.timeout_ms = timeout_ms
        self.slice_ms = slice_ms
        self.limit = limit
        self.out = memoryview(bytearray(limit))
        self.out_n = 0
        self.inward = memoryview(bytearray(limit))
        self.last_rx_ms = self.served_ms = now_ms()
        self.bytes_sent = 0
        self.bug = None

    def set_slice(self, slice_ms):
        """Set the ms of waiting after which `idle` is called."""
        self.slice_ms = slice_ms

    def serve(self):
        """Call `idle`. Its exception is stored as `bug`, to distinguish it from a fault of the peer."""
        self.served_ms = self.now_ms()
        try:
            self.idle()
        except Exception as e:
            self.bug = e
            raise

    def await_(self, raw, writing, deadline):
        """Wait a slice for the raw stream, serve, and raise OSError at the deadline."""
        raw.wait(writing)
        self.serve()
        if self.now_ms() >= deadline:
            raise OSError(ETIMEDOUT)


class Stream:
    """A stream with deadlines. Methods are those umqtt calls, plus `flush`.

    Args:
        net: Network.
        raw: The raw stream below.
    """

    def __init__(self, net, raw):
        net.out_n = 0
        self._net = net
        self._raw = raw
        self._blocking = True

    def connect(self, address):
        """Open the connection; raise OSError if refused or not answered in time."""
        self._raw.connect(address)
        self._net.last_rx_ms = self._net.now_ms()

    def setblocking(self, flag):
        """Set blocking mode; if False, `read` returns None if no bytes are available."""
        self._blocking = flag

    def write(self, data, n=None):
        """Collect bytes; the next `read` or `flush` sends them."""
        net = self._net
        n = len(data) if n is None else n
        end = net.out_n + n
        if end > net.limit:
            raise OSError(EMSGSIZE)
        net.out[net.out_n : end] = data if n == len(data) else memoryview(data)[:n]
        net.out_n = end

    def deadline_ms(self, start_ms):
        """Return until when a read that began at `start_ms` may take."""
        return start_ms + self._net.timeout_ms

    def flush(self):
        """Send the collected bytes."""
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
        """Return exactly n bytes; None if non-blocking and none are available; b"" if the peer has closed the stream.

        Raises:
            OSError: the peer closed the stream after some of the bytes or was too slow, or n exceeds the limit.
        """
        net = self._net
        if n > net.limit:
            raise OSError(EMSGSIZE)
        self.flush()
        got = 0
        start_ms = net.now_ms()
        while got < n:
            part = self._raw.recv_into(net.inward[got:n])
            if part:
                got += part
                continue
            if part is None:
                if not self._blocking and not got:
                    return None
                net.await_(self._raw, False, self.deadline_ms(start_ms))
            elif got:
                raise OSError(ECONNRESET)
            else:
                return b""
        net.last_rx_ms = net.now_ms()
        return bytes(net.inward[:n])

    def close(self):
        """Send the collected bytes if the peer accepts them at once, and close."""
        net = self._net
        try:
            if net.out_n:
                self._raw.send(net.out[: net.out_n])
        except OSError:
            pass
        net.out_n = 0
        self._raw.close()
