"""Carries TCP of a device through the emulated network that also carries its datagrams."""

import contextlib
import selectors
import socket
from collections.abc import Callable

from patrolink.emulator.network.carrier import Connection
from patrolink.emulator.network.udp_gate import HOST, Radio, UdpGate
from patrolink.emulator.peripherals.modem_port import Bridge

_SEGMENT = 1400
_QUEUE = 65536  # bytes in flight at most: the queue in front of voice


class TcpGate:
    """Forwards a port of HOST to a port of the hub, through the radio of a device.

    Args:
        gate: The UDP gate whose thread and radios it uses.
        port: Port on HOST.
        target: Port of the hub.
        radio: Returns the radio of the device, None until it has sent a datagram.
    """

    def __init__(self, gate: UdpGate, target: int, radio: Callable[[], Radio | None]) -> None:
        self._gate, self._target, self._radio = gate, target, radio
        self._flows: set[_Flow] = set()
        self.bytes = 0  # from the device
        self._server = socket.create_server((HOST, 0))
        # Keep the kernel's buffer small: data in it is not in flight yet.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._server.setblocking(False)
        self.port: int = self._server.getsockname()[1]
        with gate.locked():
            gate.selector.register(self._server, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        device_socket, _ = self._server.accept()
        radio = self._radio()
        if radio is None or radio.network.stalled():
            device_socket.close()
            return
        device_socket.setblocking(False)
        self._flows.add(_Flow(self, self._gate, radio, device_socket, self._target))

    def ended(self, flow: "_Flow") -> None:
        """Forget a closed connection."""
        self._flows.discard(flow)

    def cut(self) -> None:
        """Break every connection; data in flight is lost."""
        with self._gate.locked():
            for flow in list(self._flows):
                flow.close()

    def close(self) -> None:
        """Stop listening. Call it before `close` of the UDP gate."""
        self.cut()
        with self._gate.locked():
            self._gate.selector.unregister(self._server)
        self._server.close()


class _Flow:
    """One connection; it reads from the device only while the network has room, so TCP throttles the device."""

    def __init__(self, owner: TcpGate, gate: UdpGate, radio: Radio, device_socket: socket.socket, target: int) -> None:
        self._owner, self._selector, self._device_socket = owner, gate.selector, device_socket
        self._under_way = 0
        self._reading = False
        hub_socket = socket.create_connection(("127.0.0.1", target))
        hub_socket.setblocking(False)
        hub_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._air = Connection(radio.network, "TCP")
        self._hub_bridge = Bridge(gate.selector, hub_socket, self._air)
        self._air.remote = self
        self._air.on_data = self._answer
        self._air.on_closed = self.close
        radio.network.connections.add(self._air)
        self._read(True)

    def _read(self, on: bool) -> None:
        if on and not self._reading:
            self._selector.register(self._device_socket, selectors.EVENT_READ, self._take)
        elif self._reading and not on:
            self._selector.unregister(self._device_socket)
        self._reading = on

    def _take(self) -> None:
        try:
            data = self._device_socket.recv(_SEGMENT)
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
        """Forward data of the device that has passed the network."""
        self._under_way -= len(data)
        self._hub_bridge.feed(data)
        if self._air.open:
            self._read(True)

    def _answer(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the device has closed
            self._device_socket.sendall(data)

    def close(self) -> None:
        """Close both ends."""
        if not self._air.open:
            return
        self._read(False)
        self._air.remote = None
        self._air.close()
        self._hub_bridge.close()
        self._device_socket.close()
        self._owner.ended(self)
