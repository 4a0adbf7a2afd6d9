"""UDP between devices and a hub on a virtual clock: the hub's sockets and the public addresses of devices."""

import errno
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from patrolink.core.errors import UserError
from patrolink.emulator.network.carrier import Connection

Address = tuple[str, int]
Observer = Callable[[Address, Address, bytes], None]

_LOOPBACK = "127.0.0.1"
_MAX_WAITING = 4096  # datagrams in the receive buffer of a socket; the kernel drops further ones


class HubSocket:
    """A bound UDP socket of the hub; see `patrolink.hub.infra.udp.UdpSocket`."""

    def __init__(self, exchange: "UdpExchange", address: Address, number: int) -> None:
        self._exchange, self._address, self._number = exchange, address, number
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self.on_readable: Callable[[], None] | None = None

    @property
    def readable(self) -> bool:
        """Whether a datagram waits."""
        return bool(self._waiting)

    def fileno(self) -> int:
        """Return a number that no other socket has."""
        return self._number

    def getsockname(self) -> Address:
        """Return the address that the socket is bound to."""
        return self._address

    def arrive(self, data: bytes, source: Address) -> None:
        """Put a datagram into the receive buffer."""
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append((data, source))
            if self.on_readable is not None:
                self.on_readable()

    def recvmsg_into(self, buffers: list[bytearray], ancbufsize: int, /) -> Any:
        """Receive a datagram; see UdpSocket."""
        n, source = self.recvfrom_into(buffers[0])
        return n, [], 0, source

    def recvfrom_into(self, buffer: bytearray, /) -> Any:
        """Receive a datagram; see UdpSocket."""
        if not self._waiting:
            raise BlockingIOError(errno.EAGAIN, "no datagram")
        data, source = self._waiting.popleft()
        buffer[: len(data)] = data
        return len(data), source

    def sendto(self, data: Any, address: Any, /) -> int:
        """Send one datagram; a socket of a process that has ended sends nothing."""
        if self._exchange.is_bound(self):
            self._exchange.send(self._address, tuple(address), bytes(data))
        return len(data)

    def close(self) -> None:
        """Close the socket."""
        self.on_readable = None
        self._exchange.release(self)


class _Flow:
    """Far end of a device's UDP socket: its public address at the carrier."""

    def __init__(self, exchange: "UdpExchange", connection: Connection, target: Address) -> None:
        self._exchange, self.connection, self._target = exchange, connection, target
        self.address = exchange.new_address(self)

    def feed(self, data: bytes) -> None:
        self._exchange.arrive(self._target, self.address, data)

    def close(self) -> None:
        self._exchange.forget(self.address)

    def rebind(self) -> None:
        """Change the public address, as a NAT does after a time without packets or a restart."""
        self._exchange.forget(self.address)
        self.address = self._exchange.new_address(self)


class UdpExchange:
    """Carries datagrams between public addresses. Loss and delay are those of the devices' networks.

    Args:
        observe: Called with source, target and data of each datagram that reaches or leaves the hub.
    """

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._sockets: dict[Address, HubSocket] = {}
        self._flows: dict[Address, _Flow] = {}
        self._numbers = itertools.count(1)
        self._free_ports = itertools.count(49_152)
        self._hosts = itertools.count(1)

    # --- the hub ------------------------------------------------------------------------------------------------------

    def bind(self, host: str, port: int) -> HubSocket:
        """Return a bound socket; port 0 takes a free one.

        Raises:
            UserError: The port is in use.
        """
        if not port:
            port = next(self._free_ports)
        if ("", port) in self._sockets:
            raise UserError(f"cannot bind UDP {host}:{port}: address in use")
        sock = HubSocket(self, (host, port), next(self._numbers))
        self._sockets["", port] = sock
        return sock

    def is_bound(self, sock: HubSocket) -> bool:
        """Return whether the process of a socket lives."""
        return self._sockets.get(("", sock.getsockname()[1])) is sock

    def release(self, sock: HubSocket) -> None:
        """Free the port of a socket, which may be closed already."""
        if self.is_bound(sock):
            del self._sockets["", sock.getsockname()[1]]

    def close(self) -> None:
        """Carry nothing any more."""
        self._observe = _ignore
        self._flows.clear()
        for sock in self._sockets.values():
            sock.on_readable = None
        self._sockets.clear()

    def send(self, source: Address, target: Address, data: bytes) -> None:
        """Send a datagram to a device or within the hub's machine; lost if the address is not in use."""
        self._observe(source, target, data)
        flow = self._flows.get(target)
        if flow is not None:
            flow.connection.down(data)
            return
        sock = self._sockets.get(("", target[1]))
        if sock is not None and target[0] == _LOOPBACK:
            sock.arrive(data, (_LOOPBACK, source[1]))

    # --- devices ------------------------------------------------------------------------------------------------------

    def dial(self, connection: Connection, host: str, port: int) -> _Flow:
        """Return the far end of a new UDP socket of a device."""
        return _Flow(self, connection, ("", port))

    def new_address(self, flow: _Flow) -> Address:
        """Give a flow a public address that was never in use."""
        n = next(self._hosts)
        address = f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 40_000
        self._flows[address] = flow
        return address

    def rebind(self, address: Address) -> Address | None:
        """Replace a public address, as a NAT does; return the new one, None if the old one is not in use."""
        flow = self._flows.get(address)
        if flow is None:
            return None
        flow.rebind()
        return flow.address

    def forget(self, address: Address) -> None:
        """Drop a public address."""
        self._flows.pop(address, None)

    def arrive(self, target: Address, source: Address, data: bytes) -> None:
        """Deliver a datagram of a device to the hub's socket, if there is one."""
        self._observe(source, target, data)
        sock = self._sockets.get(target)
        if sock is not None:
            sock.arrive(data, source)


def _ignore(source: Address, target: Address, data: bytes) -> None:
    """Observe nothing."""
