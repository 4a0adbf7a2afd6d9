"""The emulated modem on a PTY, in real time, in a thread; its sockets are bridged to loopback."""

import contextlib
import os
import selectors
import socket
import time
from pathlib import Path

from patrolink.emulator.network.carrier import Connection, Network, Profile
from patrolink.emulator.network.network_thread import NetworkThread
from patrolink.emulator.peripherals.modem import Modem
from patrolink.emulator.peripherals.serial_line import Line

_CHUNK = 4096


class Bridge:
    """Far end of a connection: a socket on loopback, read by the owner of the selector."""

    def __init__(self, selector: selectors.BaseSelector, sock: socket.socket, connection: Connection) -> None:
        self._selector = selector
        self._sock = sock
        self._connection = connection
        self._pending = bytearray()
        self._tcp = connection.kind == "TCP"
        selector.register(sock, selectors.EVENT_READ, self.readable)

    def feed(self, data: bytes) -> None:
        """Send data; what the socket does not accept now is kept for later, except datagrams, which are lost."""
        if not self._tcp:
            with contextlib.suppress(OSError):
                self._sock.send(data)
            return
        self._pending += data
        try:
            n = self._sock.send(self._pending)
        except BlockingIOError:
            return
        except OSError:
            self._fail()
            return
        del self._pending[:n]

    def readable(self) -> None:
        """Read data from loopback."""
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._connection.down(data)
        elif self._tcp:
            self._fail()

    def _fail(self) -> None:
        self.close()
        self._connection.remote_closed()

    def close(self) -> None:
        """Close the socket, whichever end closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._sock)
        self._sock.close()


class ModemPort(NetworkThread):
    """An emulated modem on a PTY, until `close`. All hosts that the device names are this machine.

    Attributes:
        path: Path of the PTY.
        reset_pin: File that stands for the GPIO of the reset line.
    """

    def __init__(self, folder: Path, dialect: str, profile: Profile, seed: int) -> None:
        super().__init__()
        self._line = Line()
        self.path = self._line.path
        folder.mkdir(parents=True, exist_ok=True)
        self.reset_pin = folder / "modem-reset"
        self.reset_pin.write_text("0")
        self._level = "0"
        self.selector.register(self._line.master, selectors.EVENT_READ, self._from_device)
        self._pending = bytearray()
        self.network = Network(self.scheduler, profile, seed, self._dial)
        self.modem = Modem(
            self.scheduler, self.network, dialect, seed, self._to_device, lambda: int(time.time() * 1000)
        )
        self.start()

    def _dial(self, kind: str, host: str, port: int, connection: Connection) -> Bridge | None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "TCP" else socket.SOCK_DGRAM)
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            return None
        sock.setblocking(False)
        if kind == "TCP":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Bridge(self.selector, sock, connection)

    def _from_device(self) -> None:
        with contextlib.suppress(OSError):
            self.modem.feed(os.read(self._line.master, _CHUNK))

    def _to_device(self, data: bytes) -> None:
        self._pending += data
        with contextlib.suppress(OSError):  # no reader: the buffer of the line is full
            del self._pending[: os.write(self._line.master, self._pending)]
        del self._pending[:-_CHUNK]

    def on_slice(self) -> None:
        """Pass a change of the reset line to the modem."""
        level = self.reset_pin.read_text()[:1]
        if level and level != self._level:
            self._level = level
            self.modem.set_reset(int(level == "1"))

    def close(self) -> None:
        """Power off."""
        self.stop()
        for connection in list(self.network.connections):
            if connection.remote is not None:
                connection.remote.close()
        self._line.close()
