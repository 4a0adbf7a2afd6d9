"""Sockets of a board that has a network stack: a raw TCP stream (see compat.stream), and UDP."""

import select
import socket

EAGAIN = 11
EINPROGRESS = 115
ECONNRESET = 104
_IPPROTO_TCP = 6
_TCP_NODELAY = 1


class TcpSocket:
    """Resolving a name blocks in the platform's resolver; everything else has the network's deadlines."""

    def __init__(self, net):
        self._net = net
        self._sock = socket.socket()
        self._poll = select.poll()

    def connect(self, address):
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
        self._poll.modify(self._sock, select.POLLOUT if writing else select.POLLIN)
        ready = self._poll.poll(self._net.slice_ms)
        if writing and ready and ready[0][1] & (select.POLLERR | select.POLLHUP):
            raise OSError(ECONNRESET)
        return bool(ready)

    def send(self, view):
        try:
            return self._sock.send(view)
        except OSError as e:
            if e.errno != EAGAIN:
                raise
            return 0

    def recv_into(self, view):
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
        self._sock.close()


class UdpSocket:
    """Datagrams to one peer and from it, without waiting. Resolving a name blocks in the platform's resolver.

    inputs  hal Inputs that a datagram wakes
    """

    def __init__(self, host, port, inputs):
        self._inputs = inputs
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._sock.connect(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0][-1])
        except OSError:
            self._sock.close()
            raise
        self._sock.setblocking(False)
        inputs.add(self._sock)

    def send(self, view):
        """Send a datagram, or lose it: nothing tells that the network has no room or no way just now."""
        try:
            self._sock.send(view)
        except OSError:
            pass

    def recv_into(self, buf):
        """Return the length of a datagram that was put into `buf`, 0 for none. One that is longer is cut off."""
        try:
            # MicroPython's readinto would put the next one behind it.
            data = self._sock.recv(len(buf))
        except OSError:
            return 0
        n = len(data)
        buf[:n] = data
        return n

    def close(self):
        self._inputs.remove(self._sock)
        self._sock.close()
