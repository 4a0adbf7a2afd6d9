"""The network of a testee on a pipe: datagrams and streams to the kit, which is the host HOST.

The packets are those of `patrolink.conformance.testee.network_packets`.
"""

from collections.abc import Callable

from patrolink.conformance.testee.network_packets import DATA_MAX, TCP, UDP, Traffic
from patrolink.emulator.network.carrier import Connection, Remote

HOST = "kit.example"
_PROTOCOLS = {"UDP": UDP, "TCP": TCP}


class _Socket:
    """Far end of a connection or UDP socket of the device: a port of the kit."""

    def __init__(self, send: Callable[[Traffic], None], protocol: int, port: int) -> None:
        self._send, self._protocol, self._port = send, protocol, port

    def feed(self, data: bytes) -> None:
        """Pass on a datagram, or bytes."""
        for at in range(0, len(data), DATA_MAX):
            self._send(Traffic(self._protocol, self._port, data[at : at + DATA_MAX]))

    def close(self) -> None:
        """Report the end of a stream; UDP does not report that a socket was closed."""
        if self._protocol == TCP:
            self._send(Traffic(TCP, self._port, b""))


class KitNetwork:
    """Sockets of the device to the kit. The newest socket of a protocol and port gets what the kit sends.

    Args:
        send: Sends traffic to the kit.
    """

    def __init__(self, send: Callable[[Traffic], None]) -> None:
        self._send = send
        self._connections: dict[tuple[int, int], Connection] = {}

    def dial(self, kind: str, port: int, connection: Connection) -> Remote:
        """Open a connection or socket to a port of the kit."""
        protocol = _PROTOCOLS[kind]
        self._connections[protocol, port] = connection
        return _Socket(self._send, protocol, port)

    def arrive(self, traffic: Traffic) -> None:
        """Deliver a datagram, bytes, or the end of a stream."""
        connection = self._connections.get((traffic.protocol, traffic.port))
        if connection is None:
            return
        if traffic.data or traffic.protocol == UDP:
            connection.down(traffic.data)
        else:
            connection.remote_closed()
