"""TCP sockets of boards with a network stack: a raw stream (see compat.stream)."""

import select
import socket

EAGAIN = 11
EINPROGRESS = 115
ECONNRESET = 104
_IPPROTO_TCP = 6
_TCP_NODELAY = 1
_SO_SNDBUF = 7
_SEND_BUFFER = 16384  # bytes; voice and events wait behind the bytes in the kernel


class TcpSocket:
    """A TCP stream. Name resolution blocks in the resolver of the platform; all other calls have deadlines.

    Args:
        net: compat.stream.Network.
    """

    def __init__(self, net):
        self._net = net
        self._sock = socket.socket()
        self._poll = select.poll()
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUF, _SEND_BUFFER)
        except OSError:
            pass  # stacks without this option have small buffers

    def connect(self, address):
        """Connect to (host, port); raise OSError if refused or not answered in time."""
        host, port = address
        self._sock.setblocking(False)
        try:
            self._sock.connect(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0][-1])
        except OSError as e:
            if e.errno != EINPROGRESS:
                raise
        self._poll.register(self._sock, select.POLLOUT)
        deadline = self._net.now_ms() + self._net.timeout_ms
        while not self.wait(True):
            self._net.await_(self, True, deadline)
        self._sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)

    def wait(self, writing):
        """Wait for at most a slice until the socket is readable or writable; return True if it is."""
        self._poll.modify(self._sock, select.POLLOUT if writing else select.POLLIN)
        ready = self._poll.poll(self._net.slice_ms)
        if writing and ready and ready[0][1] & (select.POLLERR | select.POLLHUP):
            raise OSError(ECONNRESET)
        return bool(ready)

    def send(self, view):
        """Send bytes; return the number accepted, 0 if none can be sent now."""
        try:
            return self._sock.send(view)
        except OSError as e:
            if e.errno != EAGAIN:
                raise
            return 0

    def recv_into(self, view):
        """Receive into `view`; return the number of bytes, None if none are available, 0 at the end."""
        try:
            # MicroPython's sockets have readinto and no recv_into.
            data = self._sock.recv(len(view))
        except OSError as e:
            if e.errno != EAGAIN:
                raise
            return None
        view[: len(data)] = data
        return len(data)

    def close(self):
        """Close the socket."""
        self._sock.close()
