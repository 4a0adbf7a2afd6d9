"""Emulated network between devices with their own sockets and the hub: UDP on loopback, in real time, in a thread.

A device is configured with HOST instead of the address of the hub. Its two flows share one radio: the gate recognises
them by the SSRC at the start of the RTCP packets on both.
"""

import contextlib
import selectors
import socket
from collections.abc import Sequence

from patrolink.emulator.network.carrier import Connection, Network, Profile
from patrolink.emulator.network.network_thread import NetworkThread
from patrolink.emulator.peripherals.modem_port import Bridge

HOST = "127.0.0.2"
_HUB = "127.0.0.1"
_DATAGRAM = 2048
_RTCP = range(192, 224)  # byte 1 of RTCP (RFC 5761)

_Address = tuple[str, int]


class Radio:
    """Radio of one device.

    Attributes:
        flows: Connections of its sockets with the hub port of each; each has its own source port.
    """

    def __init__(self, gate: "UdpGate", profile: Profile, seed: int) -> None:
        self.network = Network(gate.scheduler, profile, seed, gate.dial)
        self._ports = gate.ports
        self.flows: list[tuple[Connection, int]] = []

    def reseed(self, seed: str) -> None:
        """Make the fate of the n-th datagram of each flow depend on `seed` alone, as for any radio with this seed."""
        for connection, port in self.flows:
            connection.reseed(f"{seed} {self._ports.index(port)}")

    def rebind(self) -> None:
        """Give every flow a new source port, as a carrier's address translation does."""
        for connection, port in self.flows:
            if connection.remote is not None:
                connection.remote.close()
            self.network.redial(connection, "", port)


class UdpGate(NetworkThread):
    """Forwards datagrams between devices on HOST and the same ports of the hub.

    Other threads change its state only under `locked`.

    Args:
        ports: Ports of the hub.
        profile: Network conditions of devices that are seen for the first time.
        seed: Seed of the first radio; each further radio adds one.

    Attributes:
        radios: One for each device, in order of appearance.
    """

    def __init__(self, ports: Sequence[int], profile: Profile, seed: int) -> None:
        super().__init__()
        self.profile, self._seed = profile, seed
        self.radios: list[Radio] = []
        self._of_ssrc: dict[bytes, Radio] = {}
        self._flows: dict[tuple[int, _Address], tuple[Radio, Connection]] = {}
        self.ports = list(ports)
        self._sockets = [self._listen(port) for port in ports]
        self.start()

    def _listen(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, port))
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self._from_devices(sock, port))
        return sock

    def dial(self, kind: str, host: str, port: int, connection: Connection) -> Bridge:
        """Open the socket of a flow towards the hub."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((_HUB, port))
        sock.setblocking(False)
        return Bridge(self.selector, sock, connection)

    def _from_devices(self, sock: socket.socket, port: int) -> None:
        while True:
            try:
                data, address = sock.recvfrom(_DATAGRAM)
            except OSError:  # no datagram waits, or the device has closed
                return
            radio, connection = self._flows.get((port, address)) or self._open(sock, port, address, data)
            if data[1:2] and data[1] in _RTCP:
                self._of_ssrc.setdefault(data[4:8], radio)
            connection.send(data)

    def _open(self, sock: socket.socket, port: int, address: _Address, data: bytes) -> tuple[Radio, Connection]:
        radio = self._of_ssrc.get(data[4:8])
        if radio is None:
            radio = Radio(self, self.profile, self._seed + len(self.radios))
            self.radios.append(radio)
        connection = Connection(radio.network, "UDP")
        connection.remote = self.dial("UDP", "", port, connection)

        def answer(packet: bytes) -> None:
            with contextlib.suppress(OSError):  # the device has closed
                sock.sendto(packet, address)

        connection.on_data = answer
        radio.network.connections.add(connection)
        radio.flows.append((connection, port))
        self._flows[port, address] = radio, connection
        return radio, connection

    def close(self) -> None:
        """Close every flow."""
        self.stop()
        for radio in self.radios:
            for connection, _ in radio.flows:
                if connection.remote is not None:
                    connection.remote.close()
        for sock in self._sockets:
            sock.close()
