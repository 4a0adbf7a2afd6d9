"""The air between devices that have sockets of their own and the hub: UDP on loopback, in real time, in a thread.

A device is told HOST instead of the hub's address. Its two flows share one radio: the gate knows them for one device's
by the SSRC that begins what it sends in RTCP on both.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence

from patrolink.emulator.network.carrier import Connection, Network, Profile
from patrolink.emulator.peripherals.modem_port import Bridge
from patrolink.emulator.scheduler import Scheduler

HOST = "127.0.0.2"
_HUB = "127.0.0.1"
_SLICE_S = 0.02  # what another thread has planned is seen so late at most
_DATAGRAM = 2048
_RTCP = range(192, 224)  # byte 1 of RTCP (RFC 5761)

_Address = tuple[str, int]


class Radio:
    """One device's way through the air; `flows` are its sockets, each with a source port of its own at the hub."""

    def __init__(self, gate: "UdpGate", profile: Profile, seed: int) -> None:
        self.network = Network(gate.scheduler, profile, seed, gate.dial)
        self._ports = gate.ports
        self.flows: list[tuple[Connection, int]] = []

    def reseed(self, seed: str) -> None:
        """Two radios given one seed do the same to the n-th datagram of each flow, whatever else they carry."""
        for connection, port in self.flows:
            connection.reseed(f"{seed} {self._ports.index(port)}")

    def rebind(self) -> None:
        """The carrier's address translation gives every flow another source port."""
        for connection, port in self.flows:
            if connection.remote is not None:
                connection.remote.close()
            self.network.redial(connection, "", port)


class UdpGate:
    """Between devices and the hub's `ports`: the gate has the same ones on HOST.

    profile  of devices that are heard first from now on
    radios   one a device, in the order in which they were heard first

    What another thread changes it changes under `held`.
    """

    def __init__(self, ports: Sequence[int], profile: Profile, seed: int) -> None:
        self.profile, self._seed = profile, seed
        self.selector = selectors.DefaultSelector()
        self.scheduler = Scheduler(self._now())
        self.radios: list[Radio] = []
        self._of_ssrc: dict[bytes, Radio] = {}
        self._flows: dict[tuple[int, _Address], tuple[Radio, Connection]] = {}
        self.ports = list(ports)
        self._sockets = [self._listen(port) for port in ports]
        self._lock = threading.Lock()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="udp gate")
        self._thread.start()

    @staticmethod
    def _now() -> float:
        return time.monotonic_ns() / 1e6

    def _listen(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, port))
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self._from_devices(sock, port))
        return sock

    def dial(self, kind: str, host: str, port: int, connection: Connection) -> Bridge:
        """Give a flow its source port towards the hub."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((_HUB, port))
        sock.setblocking(False)
        return Bridge(self.selector, sock, connection)

    def _from_devices(self, sock: socket.socket, port: int) -> None:
        while True:
            try:
                data, address = sock.recvfrom(_DATAGRAM)
            except OSError:  # nothing is there, or a device has gone
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
            with contextlib.suppress(OSError):  # the device has gone
                sock.sendto(packet, address)

        connection.on_data = answer
        radio.network.connections.add(connection)
        radio.flows.append((connection, port))
        self._flows[port, address] = radio, connection
        return radio, connection

    def _run(self) -> None:
        while not self._stop:
            due = self.scheduler.next_time()
            wait = _SLICE_S if due is None else max(0.0, min(_SLICE_S, (due - self._now()) / 1000))
            for key, _ in self.selector.select(wait):
                with self._lock:
                    self.scheduler.run_until(self._now())
                    key.data()
            with self._lock:
                self.scheduler.run_until(self._now())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the gate's thread still, to change a radio from another one."""
        with self._lock:
            self.scheduler.run_until(self._now())
            yield

    def close(self) -> None:
        """Close every flow."""
        self._stop = True
        self._thread.join()
        for radio in self.radios:
            for connection, _ in radio.flows:
                if connection.remote is not None:
                    connection.remote.close()
        for sock in self._sockets:
            sock.close()
        self.selector.close()
