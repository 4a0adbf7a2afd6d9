"""Datagrams of a board that has a network stack."""

import socket


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

    def ready(self):
        """True when a datagram can go: always."""
        return True

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
