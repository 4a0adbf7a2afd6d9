"""UDP sockets of boards with a network stack."""

import socket


class UdpSocket:
    """Non-blocking datagrams to and from one peer. Name resolution blocks in the resolver of the platform.

    Args:
        host: Name or address.
        port: UDP port.
        inputs: Inputs of the hal, woken by a datagram.
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
        """Return True: a datagram can always be sent."""
        return True

    def send(self, view):
        """Send a datagram. It is lost silently if the network has no buffer or no route."""
        try:
            self._sock.send(view)
        except OSError:
            pass

    def recv_into(self, buf):
        """Receive a datagram into `buf` and return its length, 0 for none. A longer datagram is truncated."""
        try:
            # MicroPython's readinto would append the next datagram.
            data = self._sock.recv(len(buf))
        except OSError:
            return 0
        n = len(data)
        buf[:n] = data
        return n

    def close(self):
        """Close the socket."""
        self._inputs.remove(self._sock)
        self._sock.close()
