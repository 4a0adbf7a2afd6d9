"""Sockets of a board that has a network stack: a raw TCP stream (see compat.stream)."""

import select
import socket

EAGAIN = 11
EINPROGRESS = 115
ECONNRESET = 104
_IPPROTO_TCP = 6
_TCP_NODELAY = 1
_SO_SNDBUF = 7
_SEND_BUFFER = 16384  # bytes: what is in the kernel, voice and events stand behind


class TcpSocket:
    """Resolving a name blocks in the platform's resolver; everything else has the network's deadlines."""

    def __init__(self, net):
        self._net = net
        self._sock = socket.socket()
        self._poll = select.poll()
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUF, _SEND_BUFFER)
        except OSError:
            pass  # a stack that does not let its buffers be chosen has small ones

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
