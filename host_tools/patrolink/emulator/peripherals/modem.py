"""An emulated 4G modem in Quectel's or SIMCom's dialect. Pure: bytes and events in, bytes out.

Faults of real modems that it reproduces: late and reordered URCs, bytes lost or damaged on the line, a brown-out during
a command, a SIM that is pulled, and whole `moods` of a broken modem.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from patrolink.emulator.network.carrier import Connection
from patrolink.emulator.peripherals.modem_core import ModemCore

_SOCKETS = 10


@dataclass
class _Socket:
    kind: str
    connection: Connection | None = None
    stream: bytearray = field(default_factory=bytearray)
    datagrams: list[bytes] = field(default_factory=list)
    recv_urc_pending: bool = False  # a receive URC was sent and not yet answered by a read
    peer: tuple[str, int] = ("", 0)


class Modem(ModemCore):
    """Data context and sockets. Commands of one maker are methods `_<dialect>_<name>`, those of 3GPP `_at_<name>`."""

    _sockets: dict[int, _Socket]

    def _forget_sockets(self) -> None:
        self._sockets = {}

    def _on_pdp_drop(self) -> None:
        if self._pdp:
            self._pdp = False
            self._sockets.clear()
            self._send_urc(
                '+QIURC: "pdpdeact",1' if self.dialect == "quectel" else "+CIPEVENT: NETWORK CLOSED UNEXPECTEDLY"
            )

    def _lose_pdp(self) -> None:
        if self._pdp:
            self._network.forget()
            self._on_pdp_drop()

    def _set_apn(self, mode: str, a: list[str]) -> None:
        self._apn = a[2]
        self._final()

    _quectel_qicsgp = _at_cgdcont = _set_apn

    def _attach(self) -> bool:
        """Activate the context; False if the network refuses."""
        self._pdp = self._stat in (1, 5) and bool(self._apn) and not self._network.stalled()
        return self._pdp

    def _deactivate(self) -> None:
        self._pdp = False
        for number in list(self._sockets):
            self._drop(number)

    def _quectel_qiact(self, mode: str, a: list[str]) -> None:
        if mode == "?":
            self._info('+QIACT: 1,1,1,"10.0.0.17"' if self._pdp else "")
        elif self._pdp:
            self._final("ERROR")
        else:
            self._after(
                self._random.uniform(100, 600) + self._network.profile.rtt_ms,
                lambda: self._final() if self._attach() else self._final("ERROR"),
            )

    def _quectel_qideact(self, mode: str, a: list[str]) -> None:
        self._deactivate()
        self._final(after_ms=100)

    def _simcom_netopen(self, mode: str, a: list[str]) -> None:
        if self._pdp:
            self._send_line("+IP ERROR: Network is already opened")
            self._final("ERROR")
            return
        self._final()
        self._after(
            self._random.uniform(100, 600) + self._network.profile.rtt_ms,
            lambda: self._send_line(f"+NETOPEN: {0 if self._attach() else 1}"),
        )

    def _simcom_netclose(self, mode: str, a: list[str]) -> None:
        if not self._pdp:
            self._send_line("+NETCLOSE: 2")
            self._final("ERROR")
            return
        self._deactivate()
        self._final()
        self._after(100, lambda: self._send_line("+NETCLOSE: 0"))

    def _open(self, number: int, kind: str, host: str, port: int, report: Callable[[int], None]) -> None:
        """Open a socket; `report` gets 0 or an error number."""
        if not self._pdp or number in self._sockets or not 0 <= number < _SOCKETS:
            report(4)
            return
        s = self._sockets[number] = _Socket(kind, peer=(host, port))

        epoch = self._epoch

        def connected(connection: Connection | None) -> None:
            if self._epoch != epoch or self._sockets.get(number) is not s:
                if connection is not None:
                    connection.close()
                return
            if connection is None:
                del self._sockets[number]
                report(5)
                return
            s.connection = connection
            connection.on_data = lambda data: self._on_data(number, s, data)
            connection.on_closed = lambda: self._on_closed(number, s)
            report(0)

        self._network.connect(kind, host, port, connected)

    def _on_data(self, number: int, s: _Socket, data: bytes) -> None:
        if self._sockets.get(number) is not s:
            return
        if s.kind == "UDP":
            s.datagrams.append(data)
            del s.datagrams[:-32]
        else:
            s.stream += data
        if not s.recv_urc_pending:
            s.recv_urc_pending = True
            self._send_urc(f'+QIURC: "recv",{number}' if self.dialect == "quectel" else f"+CIPRXGET: 1,{number}")

    def _on_closed(self, number: int, s: _Socket) -> None:
        if self._sockets.get(number) is s:
            self._send_urc(f'+QIURC: "closed",{number}' if self.dialect == "quectel" else f"+IPCLOSE: {number},1")

    def _read(self, s: _Socket, most: int) -> tuple[bytes, int]:
        """Return (data, number of bytes left)."""
        s.recv_urc_pending = False
        if s.kind == "UDP":
            data = s.datagrams.pop(0)[:most] if s.datagrams else b""
            remaining = sum(len(d) for d in s.datagrams)
        else:
            data = bytes(s.stream[:most])
            del s.stream[:most]
            remaining = len(s.stream)
        s.recv_urc_pending = remaining > 0
        return data, remaining

    def _drop(self, number: int) -> None:
        s = self._sockets.pop(number, None)
        if s is not None and s.connection is not None:
            s.connection.close()

    def _prompt(self, n: int, take: Callable[[bytes], None]) -> None:
        self._write(b"\r\n> ")
        self._want = n
        self._busy = False
        self._payload = take
        self._process()

    def _socket(self, number: str) -> _Socket | None:
        s = self._sockets.get(int(number)) if number.isdigit() else None
        return s if s is not None and s.connection is not None else None

    def _quectel_qiopen(self, mode: str, a: list[str]) -> None:
        number, kind, host, port = int(a[1]), a[2], a[3], int(a[4])
        self._final()
        self._open(number, kind, host, port, lambda e: self._send_urc(f"+QIOPEN: {number},{566 if e else 0}"))

    def _simcom_cipopen(self, mode: str, a: list[str]) -> None:
        number, kind = int(a[0]), a[1]
        host, port = (a[2], int(a[3])) if kind == "TCP" else ("", 0)
        self._final()
        self._open(number, kind, host, port, lambda e: self._send_urc(f"+CIPOPEN: {number},{e}"))

    def _quectel_qisend(self, mode: str, a: list[str]) -> None:
        s = self._socket(a[0])
        n = int(a[1])
        if s is None or not 1 <= n <= 1460:
            self._final("ERROR")
            return

        def take(data: bytes) -> None:
            assert s is not None and s.connection is not None
            s.connection.send(data)
            self._send_line("SEND OK")

        self._prompt(n, take)

    def _simcom_cipsend(self, mode: str, a: list[str]) -> None:
        s = self._socket(a[0])
        n = int(a[1])
        if s is None or not 1 <= n <= 1500:
            self._final("ERROR")
            return
        peer = (a[2], int(a[3])) if s.kind == "UDP" and len(a) == 4 else s.peer

        def take(data: bytes) -> None:
            assert s is not None and s.connection is not None
            if s.peer != peer:
                s.peer = peer
                self._network.redial(s.connection, *s.peer)
            s.connection.send(data)
            self._send_line("OK")
            self._send_line(f"+CIPSEND: {a[0]},{n},{n}")

        self._prompt(n, take)

    def _quectel_qird(self, mode: str, a: list[str]) -> None:
        s = self._socket(a[0])
        if s is None:
            self._final("ERROR")
            return
        data, _ = self._read(s, int(a[1]))
        self._write(b"\r\n+QIRD: %d\r\n" % len(data) + (data + b"\r\n" if data else b""))
        self._final()

    def _simcom_ciprxget(self, mode: str, a: list[str]) -> None:
        if a[0] == "1":
            self._final()
            return
        s = self._socket(a[1])
        if s is None:
            self._final("ERROR")
            return
        data, remaining = self._read(s, int(a[2]))
        if not data:
            self._send_line("+IP ERROR: No data")
            self._final("ERROR")
            return
        self._write(b"\r\n+CIPRXGET: 2,%s,%d,%d\r\n" % (a[1].encode(), len(data), remaining) + data + b"\r\n")
        self._final()

    def _quectel_qiclose(self, mode: str, a: list[str]) -> None:
        self._drop(int(a[0]))
        self._final(after_ms=20)

    def _simcom_cipclose(self, mode: str, a: list[str]) -> None:
        self._drop(int(a[0]))
        self._final()
        self._send_line(f"+CIPCLOSE: {a[0]},0")
