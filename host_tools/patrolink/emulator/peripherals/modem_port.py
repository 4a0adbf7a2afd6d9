"""The emulated modem on a PTY, in real time, with its sockets bridged to loopback: a thread of its own."""

import contextlib
import os
import selectors
import socket
import threading
import time
from pathlib import Path

from patrolink.emulator.network.carrier import Connection, Network, Profile
from patrolink.emulator.peripherals.modem import Modem
from patrolink.emulator.peripherals.serial_line import Line
from patrolink.emulator.scheduler import Scheduler

_SLICE_S = 0.02
_CHUNK = 4096


class Bridge:
    """The far end of a connection: a real socket on loopback, read by whoever runs the selector."""

    def __init__(self, selector: selectors.BaseSelector, sock: socket.socket, connection: Connection) -> None:
        self._selector = selector
        self._sock = sock
        self._connection = connection
        self._late = bytearray()
        self._tcp = connection.kind == "TCP"
        selector.register(sock, selectors.EVENT_READ, self.readable)

    def feed(self, data: bytes) -> None:
        """Send; what the socket does not take now goes with the next. A datagram that it does not take is lost."""
        if not self._tcp:
            with contextlib.suppress(OSError):
                self._sock.send(data)
            return
        self._late += data
        try:
            n = self._sock.send(self._late)
        except BlockingIOError:
            return
        except OSError:
            self._gone()
            return
        del self._late[:n]

    def readable(self) -> None:
        """Something has come from loopback."""
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._connection.down(data)
        elif self._tcp:
            self._gone()

    def _gone(self) -> None:
        self.close()
        self._connection.remote_closed()

    def close(self) -> None:
        """The device has closed, or the far end has."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._sock)
        self._sock.close()


class ModemPort:
    """Speaks on the PTY `path` until `close`. `reset_pin` is the file that stands for the reset line's GPIO.

    Every host that the device names is this machine: traffic stays on loopback.
    """

    def __init__(self, folder: Path, dialect: str, profile: Profile, seed: int) -> None:
        self._line = Line()
        self.path = self._line.path
        folder.mkdir(parents=True, exist_ok=True)
        self.reset_pin = folder / "modem-reset"
        self.reset_pin.write_text("0")
        self._level = "0"
        self.selector = selectors.DefaultSelector()
        self.selector.register(self._line.master, selectors.EVENT_READ, self._from_device)
        self._late = bytearray()
        self.scheduler = Scheduler(self._now())
        self.network = Network(self.scheduler, profile, seed, self._dial)
        self.modem = Modem(
            self.scheduler, self.network, dialect, seed, self._to_device, lambda: int(time.time() * 1000)
        )
        self._lock = threading.Lock()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="modem")
        self._thread.start()

    @staticmethod
    def _now() -> float:
        return time.monotonic_ns() / 1e6

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
        self._late += data
        with contextlib.suppress(OSError):  # nobody reads: the line's buffer is full
            del self._late[: os.write(self._line.master, self._late)]
        del self._late[:-_CHUNK]

    def _run(self) -> None:
        while not self._stop:
            due = self.scheduler.next_time()
            wait = _SLICE_S if due is None else max(0.0, min(_SLICE_S, (due - self._now()) / 1000))
            for key, _ in self.selector.select(wait):
                with self._lock:
                    self.scheduler.now = max(self.scheduler.now, self._now())
                    key.data()
            with self._lock:
                self.scheduler.run_until(self._now())
                self._watch_reset()

    def _watch_reset(self) -> None:
        level = self.reset_pin.read_text()[:1]
        if level and level != self._level:
            self._level = level
            self.modem.set_reset(int(level == "1"))

    @contextlib.contextmanager
    def locked(self):  # type: ignore[no-untyped-def]
        """Hold the modem's thread still, to change the network or the modem from another one."""
        with self._lock:
            self.scheduler.run_until(self._now())
            yield self

    def close(self) -> None:
        """Power off."""
        self._stop = True
        self._thread.join()
        for connection in list(self.network.connections):
            if connection.remote is not None:
                connection.remote.close()
        self.selector.close()
        self._line.close()
