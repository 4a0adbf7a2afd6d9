"""TCP of a device through the air that its datagrams go through, too: both share what its radio carries."""

import contextlib
import selectors
import socket
from collections.abc import Callable

from patrolink.emulator.network.carrier import Connection
from patrolink.emulator.network.udp_gate import HOST, Radio, UdpGate
from patrolink.emulator.peripherals.modem_port import Bridge

_SEGMENT = 1400
_QUEUE = 65536  # bytes that the air holds: as large as voice has to fear


class TcpGate:
    """`port` of HOST leads to the hub's `target`. `radio` returns the device's, None while it has not been heard."""

    def __init__(self, gate: UdpGate, target: int, radio: Callable[[], Radio | None]) -> None:
        self._gate, self._target, self._radio = gate, target, radio
        self._flows: set[_Flow] = set()
        self.bytes = 0  # from the device
        self._server = socket.create_server((HOST, 0))
        # What waits in the kernel here is not on its way yet.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._server.setblocking(False)
        self.port: int = self._server.getsockname()[1]
        with gate.held():
            gate.selector.register(self._server, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        near, _ = self._server.accept()
        radio = self._radio()
        if radio is None or radio.network.stalled():
            near.close()
            return
        near.setblocking(False)
        self._flows.add(_Flow(self, self._gate, radio, near, self._target))

    def ended(self, flow: "_Flow") -> None:
        """A connection is over."""
        self._flows.discard(flow)

    def cut(self) -> None:
        """Every connection breaks; what is on its way is lost."""
        with self._gate.held():
            for flow in list(self._flows):
                flow.close()

    def close(self) -> None:
        """Listen no more. Before the UdpGate's `close`."""
        self.cut()
        with self._gate.held():
            self._gate.selector.unregister(self._server)
        self._server.close()


class _Flow:
    """One connection: read from the device only while the air has room, so TCP's own window holds it back."""

    def __init__(self, owner: TcpGate, gate: UdpGate, radio: Radio, near: socket.socket, target: int) -> None:
        self._owner, self._selector, self._near = owner, gate.selector, near
        self._under_way = 0
        self._reading = False
        far = socket.create_connection(("127.0.0.1", target))
        far.setblocking(False)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._air = Connection(radio.network, "TCP")
        self._far = Bridge(gate.selector, far, self._air)
        self._air.remote = self
        self._air.on_data = self._answer
        self._air.on_closed = self.close
        radio.network.connections.add(self._air)
        self._read(True)

    def _read(self, on: bool) -> None:
        if on and not self._reading:
            self._selector.register(self._near, selectors.EVENT_READ, self._take)
        elif self._reading and not on:
            self._selector.unregister(self._near)
        self._reading = on

    def _take(self) -> None:
        try:
            data = self._near.recv(_SEGMENT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._owner.bytes += len(data)
        self._under_way += len(data)
        self._air.send(data)
        self._read(self._under_way < _QUEUE)

    def feed(self, data: bytes) -> None:
        """What the device sent has come through the air."""
        self._under_way -= len(data)
        self._far.feed(data)
        if self._air.open:
            self._read(True)

    def _answer(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the device has gone
            self._near.sendall(data)

    def close(self) -> None:
        """Both ends are let go of."""
        if not self._air.open:
            return
        self._read(False)
        self._air.remote = None
        self._air.close()
        self._far.close()
        self._near.close()
        self._owner.ended(self)
