"""TCP between programs on virtual clocks: listeners, and the two ends of a connection.

Nothing is lost and nothing takes time. The network of a device delays what passes through `TcpExchange.dial`.
"""

import asyncio
import errno
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from patrolink.emulator.network.carrier import Connection

Address = tuple[str, int]

_MAX_UNREAD = 1 << 16  # bytes that the receiving end has not read; then the sender has to wait
_FIRST_PORT = 49_152  # of clients


class Endpoint:
    """One end of a connection. `connected` returns both.

    Attributes:
        address: Address of this end.
        peer: The other end.
        on_change: Called when data, the end or a reset has arrived, and when `is_full` becomes False.
        unread: Number of bytes that have arrived and were not read.
        is_reset: The connection was aborted.
    """

    peer: "Endpoint"

    def __init__(self, address: Address) -> None:
        self.address = address
        self.on_change: Callable[[], None] = _nothing
        self.unread = 0
        self.is_reset = False
        self._received: deque[bytes] = deque()
        self._is_end_sent = self._is_closed = False

    @property
    def has_ended(self) -> bool:
        """Whether everything that the other end has sent was read, and it will send no more."""
        return not self._received and (self.peer._is_end_sent or self.is_reset)

    @property
    def is_full(self) -> bool:
        """Whether the other end has to read before more should be sent."""
        return self.peer.unread > _MAX_UNREAD

    def setblocking(self, flag: bool) -> None:
        """Do nothing; see socket."""

    def send(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            OSError: The connection was aborted or closed.
        """
        if self.is_reset or self._is_end_sent:
            raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
        if self.peer._is_closed:
            self._lose()
        elif data:
            self.peer._received.append(data)
            self.peer.unread += len(data)
            self.peer.on_change()

    def read(self) -> bytes:
        """Return the oldest bytes that have arrived; b"" if there are none."""
        if not self._received:
            return b""
        data, was_full = self._received.popleft(), self.peer.is_full
        self.unread -= len(data)
        if was_full and not self.peer.is_full:
            self.peer.on_change()
        return data

    def end(self) -> None:
        """Send no more."""
        if not self._is_end_sent:
            self._is_end_sent = True
            self.peer.on_change()

    def close(self) -> None:
        """Send no more and read no more."""
        self.on_change = _nothing
        self._is_closed = True
        self.end()

    def abort(self) -> None:
        """Close this end, and discard what the other end has not read."""
        self.close()
        self.peer._lose()

    def _lose(self) -> None:
        self.is_reset = True
        self._received.clear()
        self.unread = 0
        self.on_change()


def connected(first: Address, second: Address) -> tuple[Endpoint, Endpoint]:
    """Return the two ends of a new connection."""
    ends = Endpoint(first), Endpoint(second)
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    return ends


class StreamTransport(asyncio.Transport):
    """Transport of asyncio for one end of a connection.

    Args:
        loop: Event loop of the protocol.
        protocol: Gets what arrives.
        endpoint: The end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any, endpoint: Endpoint) -> None:
        super().__init__({"sockname": endpoint.address, "peername": endpoint.peer.address})
        self._loop, self._protocol, self._endpoint = loop, protocol, endpoint
        self._is_pending = self._is_reading_paused = self._is_writing_paused = False
        self._is_eof_received = self._is_closing = False
        loop.call_soon(protocol.connection_made, self)
        endpoint.on_change = self._on_change
        self._on_change()

    def _on_change(self) -> None:
        if not self._is_pending and not self._is_closing:
            self._is_pending = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        self._is_pending = False
        if self._is_writing_paused and not self._endpoint.is_full:
            self._is_writing_paused = False
            self._protocol.resume_writing()
        while not self._is_closing and not self._is_reading_paused and (data := self._endpoint.read()):
            self._protocol.data_received(data)
        if self._is_closing or self._is_reading_paused:
            return
        if self._endpoint.is_reset:
            self._end(ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))
        elif self._endpoint.has_ended and not self._is_eof_received:
            self._is_eof_received = True
            if not self._protocol.eof_received():
                self.close()

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Send bytes; see asyncio."""
        if self._is_closing:
            return
        try:
            self._endpoint.send(bytes(data))
        except ConnectionResetError as e:
            self._end(e)
            return
        if self._endpoint.is_full and not self._is_writing_paused:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Return True."""
        return True

    def write_eof(self) -> None:
        """Send no more; see asyncio."""
        self._endpoint.end()

    def get_write_buffer_size(self) -> int:
        """Return 0: what is sent leaves at once."""
        return 0

    def is_reading(self) -> bool:
        """Return whether the protocol gets what arrives."""
        return not self._is_reading_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Keep what arrives; see asyncio."""
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        """Give the protocol what arrives; see asyncio."""
        self._is_reading_paused = False
        self._on_change()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol; see asyncio."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; see asyncio."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        """Return whether this end is closed."""
        return self._is_closing

    def close(self) -> None:
        """Close in order; see asyncio."""
        self._endpoint.close()
        self._end(None)

    def abort(self) -> None:
        """Close at once; see asyncio."""
        self._endpoint.abort()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._endpoint.close()
            self._loop.call_soon(self._protocol.connection_lost, error)


class Listener:
    """A listening socket, for `sock_accept` of a virtual loop."""

    def __init__(self, exchange: "TcpExchange", address: Address) -> None:
        self._exchange, self.address = exchange, address
        self._waiting: deque[Endpoint] = deque()
        self._accepting: asyncio.Future[None] | None = None
        self._accepted: list[Endpoint] = []

    def arrive(self, endpoint: Endpoint) -> None:
        """Queue a connection."""
        self._waiting.append(endpoint)
        if self._accepting is not None and not self._accepting.done():
            self._accepting.set_result(None)

    async def accept(self) -> tuple[Endpoint, Address]:
        """Wait for a connection; return this end and the address of the other."""
        while not self._waiting:
            self._accepting = asyncio.get_running_loop().create_future()
            await self._accepting
        endpoint = self._waiting.popleft()
        self._accepted = [other for other in self._accepted if not other._is_closed]
        self._accepted.append(endpoint)
        return endpoint, endpoint.peer.address

    def close(self) -> None:
        """Listen no more; what was accepted remains."""
        self._exchange.release(self)
        for endpoint in self._waiting:
            endpoint.abort()
        self._waiting.clear()

    def kill(self) -> None:
        """Close the listener and all its connections: the process has ended."""
        self.close()
        for endpoint in self._accepted:
            endpoint.close()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class TcpExchange:
    """Connects clients with listeners, by port: all listeners are on one machine."""

    def __init__(self) -> None:
        self._listeners: dict[int, Listener] = {}
        self._free_ports = itertools.count(_FIRST_PORT)

    def listen(self, host: str, port: int) -> Listener:
        """Return a new listener.

        Raises:
            OSError: The port is in use.
        """
        if port in self._listeners:
            raise OSError(errno.EADDRINUSE, "address already in use")
        listener = self._listeners[port] = Listener(self, (host, port))
        return listener

    def release(self, listener: Listener) -> None:
        """Free the port of a listener."""
        if self._listeners.get(listener.address[1]) is listener:
            del self._listeners[listener.address[1]]

    def connect(self, port: int, source: str = "127.0.0.1") -> Endpoint:
        """Return the client's end of a new connection from an address.

        Raises:
            OSError: Nobody listens at the port.
        """
        listener = self._listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        client, server = connected((source, next(self._free_ports)), listener.address)
        listener.arrive(server)
        return client

    def dial(
        self, connection: Connection, port: int, source: str, on_answer: Callable[[bytes], None] | None = None
    ) -> "CarriedEnd | None":
        """Connect a device through its network (`carrier.Dial`); None if nobody listens.

        Args:
            connection: Its connection.
            port: Port of the listener.
            source: Its IP address, as the listener sees it.
            on_answer: Called with all bytes that are sent to the device.
        """
        try:
            return CarriedEnd(connection, self.connect(port, source), on_answer)
        except ConnectionRefusedError:
            return None


class CarriedEnd:
    """Far end of a device's TCP connection (`carrier.Remote`)."""

    def __init__(self, connection: Connection, endpoint: Endpoint, on_answer: Callable[[bytes], None] | None) -> None:
        self._connection, self._endpoint, self._on_answer = connection, endpoint, on_answer
        endpoint.on_change = self._on_change

    def feed(self, data: bytes) -> None:
        """Take bytes of the device."""
        try:
            self._endpoint.send(data)
        except ConnectionResetError:
            self._connection.remote_closed()

    def close(self) -> None:
        """The device has closed."""
        self._endpoint.close()

    def _on_change(self) -> None:
        while data := self._endpoint.read():
            if self._on_answer is not None:
                self._on_answer(data)
            self._connection.down(data)
        if self._endpoint.has_ended:
            self._endpoint.close()
            self._connection.remote_closed()


def _nothing() -> None:
    """Nobody is interested."""
