"""The part of an emulated modem below its data context: UART, power, commands, SIM, registration."""

import functools
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from patrolink.emulator.network.carrier import Network
from patrolink.emulator.scheduler import Scheduler

CONDITIONS = ("normal", "silent", "garbage", "error", "foreign")
_MAKERS = {"quectel": ("Quectel", "EC200A"), "simcom": ("SIMCOM INCORPORATED", "A7670E")}
_IMEI = "867584030000017"
_ICCID = "89860000000000000017"
_BYTE_MS = 10 * 1000 / 115200


@dataclass
class LineFaults:
    """Faults of the line.

    Attributes:
        drop: Probability that a byte is lost, in both directions.
        damage: Probability that a byte is damaged, in both directions.
        late_urc: Probability that a URC is delayed by up to two seconds.
    """

    drop: float = 0.0
    damage: float = 0.0
    late_urc: float = 0.0


class ModemCore(ABC):
    """Line, power, identity and registration; `modem.Modem` adds the data context and its sockets.

    Args:
        scheduler: Clock of the emulation.
        network: Network behind the modem.
        dialect: `quectel` or `simcom`.
        seed: Seed of the modem's randomness.
        send: Called with bytes for the device when they have passed the line.
        now: Returns the Unix time of the network in milliseconds.

    Attributes:
        condition: One of CONDITIONS; may change at any time.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        network: Network,
        dialect: str,
        seed: int,
        send: Callable[[bytes], None],
        now: Callable[[], int],
    ) -> None:
        self._scheduler = scheduler
        self._network = network
        self.dialect = dialect
        self._random = random.Random(f"modem {seed}")
        self._send = send
        self._now = now
        self.line = LineFaults()
        self.condition = "normal"
        self.sim = True
        self.commands: dict[str, int] = {}
        self.boots = 0
        self._line_free = 0.0
        self._epoch = 0  # grows with each start, which voids what was scheduled before
        network.on_change = self._on_coverage
        network.on_pdp_drop = self._on_pdp_drop
        self.start()

    # --- power ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Power on, reset or brown-out: volatile state is lost; it answers after its boot time."""
        self._epoch += 1
        self.boots += 1
        self._network.forget()
        self._awake = False
        self._echo = True
        self._cmee = 0
        self._radio = True
        self._urc = {"CREG": 0, "CGREG": 0, "CEREG": 0}
        self._stat = 0
        self._pdp = False
        self._apn = ""
        self._forget_sockets()
        self._input = bytearray()
        self._busy = False
        self._want = 0
        self._payload: Callable[[bytes], None] | None = None
        self._after(self._random.uniform(2000, 6000), self._after_boot)

    def _after_boot(self) -> None:
        self._awake = True
        self._send_line("RDY" if self.dialect == "quectel" else "*ATREADY: 1")
        self._send_line("+CPIN: READY" if self.sim else "+CPIN: NOT INSERTED")
        self._search()

    def set_reset(self, level: int) -> None:
        """Set the reset line, active high as on the board's transistor."""
        if level:
            self.start()

    def set_sim(self, present: bool) -> None:
        """Insert or pull the SIM."""
        self.sim = present
        if not present:
            self._lose_pdp()
            self._register(0)
        self._send_line("+CPIN: READY" if present else "+CPIN: NOT INSERTED")
        if present:
            self._search()

    def _after(self, ms: float, action: Callable[[], None]) -> None:
        epoch = self._epoch
        self._scheduler.after(ms, lambda: action() if self._epoch == epoch else None)

    # --- the line ---------------------------------------------------------------------------------------------------

    def _apply_line_faults(self, data: bytes) -> bytes:
        faults = self.line
        odds = faults.drop + faults.damage
        if not odds:
            return data
        # Draw the position of the next fault instead of one draw per byte.
        out = bytearray()
        at = 0
        while True:
            skip = int(self._random.expovariate(odds))
            if at + skip >= len(data):
                return bytes(out + data[at:])
            out += data[at : at + skip]
            if self._random.random() * odds >= faults.drop:
                out.append(data[at + skip] ^ 1 << self._random.randrange(8))
            at += skip + 1

    def _write(self, data: bytes) -> None:
        """Send to the device at the baud rate of the line."""
        if self.condition == "silent":
            return
        if self.condition == "garbage":
            data = self._random.randbytes(len(data))
        data = self._apply_line_faults(data)
        self._line_free = max(self._line_free, self._scheduler.now) + len(data) * _BYTE_MS
        self._scheduler.at(self._line_free, lambda: self._send(data))

    def _send_line(self, text: str) -> None:
        self._write(b"\r\n" + text.encode() + b"\r\n")

    def _send_urc(self, text: str) -> None:
        """Send a URC, now or late."""
        if self._random.random() < self.line.late_urc:
            self._after(self._random.uniform(50, 2000), lambda: self._send_line(text))
        else:
            self._send_line(text)

    def feed(self, data: bytes) -> None:
        """Take bytes from the device."""
        if not self._awake or self.condition == "silent":
            return
        self._input += self._apply_line_faults(data)
        self._process()

    def _process(self) -> None:
        while not self._busy:
            if self._want:
                if len(self._input) < self._want:
                    return
                data = bytes(self._input[: self._want])
                del self._input[: self._want]
                self._want = 0
                assert self._payload is not None
                self._payload(data)
                continue
            end = self._input.find(b"\r")
            if end < 0:
                del self._input[:-4096]
                return
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            if self._echo:
                self._write(line + b"\r")
            start = line.upper().find(b"AT")
            if start >= 0:
                self._busy = True
                text = line[start:].decode("latin-1")
                self._after(self._random.uniform(2, 15), functools.partial(self._execute, text))

    def _final(self, text: str = "OK", after_ms: float = 0.0) -> None:
        def end() -> None:
            self._send_line(text)
            self._busy = False
            self._process()

        if after_ms:
            self._after(after_ms, end)
        else:
            end()

    def _error(self, code: int) -> None:
        self._final(f"+CME ERROR: {code}" if self._cmee else "ERROR")

    # --- commands ---------------------------------------------------------------------------------------------------

    def _execute(self, text: str) -> None:
        if self.condition == "error":
            self._final("ERROR")
            return
        match = re.match(r"AT([+A-Z]*\d?)(\?|=\?|=)?(.*)", text, re.DOTALL)
        name = match.group(1).lstrip("+") if match else ""
        if not text[2:].startswith("+"):
            name = text[2:]
        mode = (match.group(2) or "") if match else ""
        rest = match.group(3) if match else ""
        self.commands[name] = self.commands.get(name, 0) + 1
        handler = getattr(self, f"_{self.dialect}_{name.lower()}", None) or getattr(self, f"_at_{name.lower()}", None)
        if handler is None:
            self._final("ERROR")
            return
        try:
            handler(mode, _arguments(rest))
        except (ValueError, IndexError):  # arguments damaged on the line
            self._final("ERROR")

    def _at_(self, mode: str, a: list[str]) -> None:
        self._final()

    def _at_e0(self, mode: str, a: list[str]) -> None:
        self._echo = False
        self._final()

    def _at_cmee(self, mode: str, a: list[str]) -> None:
        self._cmee = int(a[0])
        self._final()

    def _info(self, text: str) -> None:
        self._send_line(text)
        self._final()

    def _at_cgmi(self, mode: str, a: list[str]) -> None:
        self._info("Foreign Modules Ltd" if self.condition == "foreign" else _MAKERS[self.dialect][0])

    def _at_cgmm(self, mode: str, a: list[str]) -> None:
        self._info(_MAKERS[self.dialect][1])

    def _at_cgsn(self, mode: str, a: list[str]) -> None:
        self._info(_IMEI)

    def _accept(self, mode: str, a: list[str]) -> None:
        self._final()

    _at_ctzu = _at_cedrxs = _at_cpsms = _at_cgauth = _accept

    def _at_cpin(self, mode: str, a: list[str]) -> None:
        if self.sim:
            self._info("+CPIN: READY")
        else:
            self._error(10)

    def _quectel_qccid(self, mode: str, a: list[str]) -> None:
        self._info(f"+QCCID: {_ICCID}")

    def _simcom_ciccid(self, mode: str, a: list[str]) -> None:
        self._info(f"+ICCID: {_ICCID}")

    def _at_cfun(self, mode: str, a: list[str]) -> None:
        if a == ["1", "1"]:
            self._final()
            self.start()
            return
        self._radio = a[0] == "1"
        if self._radio:
            self._search()
        else:
            self._lose_pdp()
            self._register(0)
        self._final(after_ms=self._random.uniform(300, 1500))

    def _registration(self, name: str, mode: str, a: list[str]) -> None:
        if mode == "=":
            self._urc[name] = int(a[0])
            self._final()
        else:
            self._info(f"+{name}: {self._urc[name]},{self._stat}")

    def _at_cereg(self, mode: str, a: list[str]) -> None:
        self._registration("CEREG", mode, a)

    def _at_cgreg(self, mode: str, a: list[str]) -> None:
        self._registration("CGREG", mode, a)

    def _at_creg(self, mode: str, a: list[str]) -> None:
        self._registration("CREG", mode, a)

    def _at_cops(self, mode: str, a: list[str]) -> None:
        self._info('+COPS: 0,0,"EMULATED",7' if self._stat in (1, 5) else "+COPS: 0")

    def _dbm(self) -> int | None:
        return self._network.profile.rsrp_dbm + self._random.randrange(-3, 4) if self._stat in (1, 5) else None

    def _at_csq(self, mode: str, a: list[str]) -> None:
        dbm = self._dbm()
        # RSSI over the whole 10 MHz carrier is about 20 dB above RSRP.
        self._info(f"+CSQ: {99 if dbm is None else max(0, min(31, (dbm + 20 + 113) // 2))},99")

    def _quectel_qcsq(self, mode: str, a: list[str]) -> None:
        dbm = self._dbm()
        self._info('+QCSQ: "NOSERVICE"' if dbm is None else f'+QCSQ: "LTE",{dbm + 20},{dbm},120,-10')

    def _simcom_cpsi(self, mode: str, a: list[str]) -> None:
        dbm = self._dbm()
        if dbm is None:
            self._info("+CPSI: NO SERVICE,Online")
        else:
            cell = "460-00,0x1A2B,12345678,211,EUTRAN-BAND3,1300,5,5"
            self._info(f"+CPSI: LTE,Online,{cell},-100,{dbm * 10},{dbm * 10 + 200},12")

    def _at_cclk(self, mode: str, a: list[str]) -> None:
        from datetime import datetime, timezone

        local = datetime.fromtimestamp(self._now() / 1000 + 8 * 3600, timezone.utc)
        self._info(f'+CCLK: "{local:%y/%m/%d,%H:%M:%S}+32"')

    # --- registration -----------------------------------------------------------------------------------------------

    def _search(self) -> None:
        if self._awake and self.sim and self._radio and self._network.covered and self._stat not in (1, 5):
            self._register(2)
            self._after(self._random.uniform(1000, 4000), self._on_network_found)

    def _on_network_found(self) -> None:
        if self.sim and self._radio and self._network.covered:
            self._register(1)

    def _register(self, stat: int) -> None:
        if stat == self._stat:
            return
        self._stat = stat
        for name in ("CGREG", "CEREG"):
            if self._urc[name] and self._awake:
                self._send_urc(f"+{name}: {stat}")

    def _on_coverage(self) -> None:
        if self._network.covered:
            self._search()
        else:
            self._register(2)

    # --- what the data context adds ---------------------------------------------------------------------------------

    @abstractmethod
    def _forget_sockets(self) -> None:
        """Power was lost: no context, no sockets."""

    @abstractmethod
    def _lose_pdp(self) -> None:
        """Close the context because it cannot continue."""

    @abstractmethod
    def _on_pdp_drop(self) -> None:
        """The carrier has withdrawn the context."""


def _arguments(text: str) -> list[str]:
    """Return comma-separated arguments without their quotes."""
    return [part.strip().strip('"') for part in text.split(",")]
