"""Driver of the 4G modem: start, registration, data context and sockets, with AT commands over a UART.

3GPP TS 27.007; the commands of the manufacturers are in `dialects`. Commands run one at a time. While one waits for its
answer, the rest of the agent is served. Logs name cells and operators, never numbers, addresses or payloads.
"""

from compat import modules
from patrolink_protocol.native import const

from .at import (
    ERROR,
    OK,
    TIMEOUT,
    URC_CLOSED,
    URC_PDP_LOST,
    URC_PDP_RESULT,
    AtChannel,
    Command,
    command_name,
    fields,
    parse_clock,
    printable,
)
from .sockets import EMFILE, ENOTCONN, ModemSocket

SOCKETS = 6
_BOOT_MS = const(20000)
_PROBE_MS = const(1500)  # three attempts
_TIMEOUTS_MAX = const(3)
_ROAMING = const(5)
_CPIN_ABSENT = (10, 13, 14, 15)  # TS 27.007, 9.2.1: SIM not inserted, failure, busy, wrong
_RESET_MS = const(300)  # RESET_N low: EC200 and EG25 need 150 ms or more, SIM7600 and A7670 100 ms or more
_KEY_MS = const(1000)  # PWRKEY low: EG25 and SIM7600 need 500 ms, A7670 50 ms; the SIMCom modems switch off at 2.5 s
_PDP_DOWN_MS = const(40000)
_RADIO_MS = const(15000)


class ModemError(Exception):
    """The modem or its network failed; the text says what and why."""


class Modem:
    """The modem, its data context and its sockets.

    Args:
        uart: UART of the HAL: readinto(buf) -> n, write(buf), wait(ms).
        reset: pin of the reset line, or None: AT+CFUN=1,1 is used.
        key: pin of the power key, or None: the modem starts when it gets power.
        net: compat.stream.Network.
        log: function(text).
        config: "apn" and optionally "user", "password" and "edrx", the four bits of TS 24.008, 10.5.5.32 as text.
            Without "edrx" both eDRX and PSM are off, so that the device can be reached at once.

    Attributes:
        at: AtChannel.
        dialect: module of `dialects`, None before `start`.
        sockets: the open socket of each number, or None.
        ready: True after `start` until the modem restarts or stops answering.
        sim: True after `check_sim` until the SIM is removed.
        registration: <stat> of CGREG and CEREG.
        pdp: True while the data context is active.
        imei, iccid: bytes; empty until they were read.
        operator: name of the operator, empty if unknown.
        resets: number of resets.
    """

    faults = (ModemError,)

    def __init__(self, uart, reset, key, net, log, config):
        self._uart = uart
        self._reset_pin = reset
        self._key_pin = key
        self._net = net
        self._log = log
        self._config = config
        self.at = AtChannel(uart.write, self._on_urc)
        self._buf = bytearray(256)
        self.dialect = None
        self.sockets = [None] * SOCKETS
        self.imei = self.iccid = b""
        self.operator = ""
        self.resets = 0
        self._timeouts = 0  # in a row
        self._clear_state()

    def _clear_state(self):
        """Reset the state that a restart of the modem loses."""
        self.ready = False
        self.sim = False
        self.registration = [0, 0]
        self._lose_pdp()
        self._pdp_result = None

    def _lose_pdp(self):
        self.pdp = False
        for s in self.sockets:
            if s is not None:
                s.on_urc(URC_CLOSED, None)

    # --- UART -------------------------------------------------------------------------------------------------------

    def poll(self, ms=0):
        """Process the UART: wait up to `ms` for input, read it, and write the next command."""
        if ms:
            self._uart.wait(ms)
        now_ms = self._net.now_ms()
        for _ in range(16):
            n = self._uart.readinto(self._buf)
            if not n:
                break
            self.at.feed(self._buf, n, now_ms)
        self.at.poll(now_ms)

    def run(self, text, timeout_ms=1000, prefix=None, **more):
        """Run a command until it ends and return the at.Command, whose arguments these are."""
        command = self.at.submit(Command(text, timeout_ms, prefix, **more))
        self.poll()
        while command.result is None:
            self.poll(self._net.slice_ms)
            self._net.serve()
        self._timeouts = self._timeouts + 1 if command.result == TIMEOUT else 0
        if self._timeouts >= _TIMEOUTS_MAX and self.ready:
            self._log("modem: %d commands were not answered" % self._timeouts)
            self._clear_state()
        return command

    def run_checked(self, text, timeout_ms=1000, prefix=None, **more):
        """Run a command that has to succeed.

        Raises:
            ModemError: it failed, was not answered, or had no information line of its prefix.
        """
        command = self.run(text, timeout_ms, prefix, **more)
        if command.result != OK or prefix is not None and not command.lines:
            raise ModemError("%s: %s" % (command_name(text), command.describe()))
        return command

    def wait_until(self, condition, timeout_ms):
        """Serve the agent until condition() is true. Return False after `timeout_ms`."""
        deadline_ms = self._net.now_ms() + timeout_ms
        while not condition():
            if self._net.now_ms() >= deadline_ms:
                return False
            self.poll(self._net.slice_ms)
            self._net.serve()
        return True

    def _on_urc(self, line):
        if line.startswith((b"+CEREG:", b"+CGREG:")):
            self._on_registration(line)
        elif line in (b"RDY", b"*ATREADY: 1", b"POWERED DOWN", b"NORMAL POWER DOWN"):
            if self.ready:
                self._log("modem: restarted unexpectedly")
            self._clear_state()
        elif line in (b"+CPIN: NOT READY", b"+CPIN: NOT INSERTED", b"+SIMCARD: NOT AVAILABLE", b"+CME ERROR: 10"):
            self.sim = False
        elif self.dialect is not None:
            urc = self.dialect.parse_urc(line)
            if urc is not None:
                self._on_dialect_urc(*urc)

    def _on_dialect_urc(self, kind, number, value):
        if kind == URC_PDP_LOST:
            self._lose_pdp()
        elif kind == URC_PDP_RESULT:
            self._pdp_result = value
        elif isinstance(number, int) and 0 <= number < SOCKETS:
            s = self.sockets[number]
            if s is not None:
                s.on_urc(kind, value)

    def _on_registration(self, line):
        """Process +CEREG: <n>,<stat>[,"..."] (answer) or +CEREG: <stat>[,"..."] (URC), TS 27.007, 10.1.22."""
        values = fields(line)
        stat = values[1] if len(values) > 1 and isinstance(values[1], int) else values[0]
        if isinstance(stat, int):
            self.registration[1 if line.startswith(b"+CE") else 0] = stat

    @property
    def registered(self):
        """True while registered in the home network or roaming, in EPS or GPRS."""
        return any([stat in (1, _ROAMING) for stat in self.registration])

    @property
    def roaming(self):
        """True while registered in another network than the home network."""
        return _ROAMING in self.registration

    # --- from power on to a data context ----------------------------------------------------------------------------

    def start(self):
        """Make the modem answer, find its dialect, and configure it.

        Raises:
            ModemError: the modem does not answer, is of an unknown manufacturer, or rejected a command.
        """
        if not self._probe(_PROBE_MS) and not self._switch_on():
            raise ModemError("no answer to AT; check the power and the baud rate of the modem")
        self._clear_state()
        self.run(b"ATE0")
        self.run(b"AT+CMEE=1")
        self.dialect = self._find_dialect()
        for text, timeout_ms in self.dialect.SETUP:
            self.run(text, timeout_ms)
        edrx = self._config.get("edrx")
        if edrx:
            self.run(b'AT+CEDRXS=1,4,"%s"' % edrx.encode())
        else:
            self.run(b"AT+CEDRXS=0")
            self.run(b"AT+CPSMS=0")
        self.run(b"AT+CGREG=1")
        self.run_checked(b"AT+CEREG=1")
        self.imei = self.run_checked(b"AT+CGSN", 1000, b"").lines[0]
        self.ready = True

    def _probe(self, ms):
        """Send AT until the modem answers. Return False after `ms`."""
        deadline_ms = self._net.now_ms() + ms
        while self.run(b"AT", 300).result != OK:
            if self._net.now_ms() >= deadline_ms:
                return False
        return True

    def _switch_on(self):
        """Pulse the power key. Only for a modem that does not answer: the key switches most modems off as well."""
        if self._key_pin is None:
            return False
        self._log("modem: no answer to AT; pulsing the power key")
        self._pulse(self._key_pin, _KEY_MS)
        return self._probe(_BOOT_MS)

    def _pulse(self, pin, ms):
        pin.set(1)
        self.wait_until(_never, ms)
        pin.set(0)

    def _find_dialect(self):
        manufacturer = b" ".join(self.run_checked(b"AT+CGMI", 1000, b"").lines).upper()
        # Local imports: only the dialect of the modem is on the heap.
        if b"QUECTEL" in manufacturer:
            from .dialects import quectel

            modules.unload("agent.modem.dialects.simcom")
            return quectel
        if b"SIMCOM" in manufacturer:
            from .dialects import simcom

            modules.unload("agent.modem.dialects.quectel")
            return simcom
        raise ModemError("manufacturer %s is not supported; use Quectel or SIMCom" % printable(manufacturer))

    def check_sim(self):
        """Check the SIM and read its ICCID.

        Raises:
            ModemError: there is no usable SIM, or it requires a PIN.
        """
        command = self.run(b"AT+CPIN?", 5000, b"+CPIN:")
        if command.result == ERROR and command.code in _CPIN_ABSENT:
            raise ModemError("no usable SIM (+CME ERROR: %d); check that it is inserted" % command.code)
        if command.result != OK or not command.lines:
            raise ModemError("AT+CPIN?: %s" % command.describe())
        if b"READY" not in command.lines[0] or b"NOT" in command.lines[0]:
            raise ModemError("the SIM requires %s; disable its PIN" % printable(command.lines[0][6:].strip()))
        text, prefix = self.dialect.ICCID
        command = self.run(text, 1000, prefix)
        if command.result == OK and command.lines:
            self.iccid = command.lines[0][len(prefix) :].strip().strip(b'"')
        self.sim = True

    def read_registration(self):
        """Read the registration state: a URC that reported it may have been lost."""
        for text in (b"AT+CEREG?", b"AT+CGREG?"):
            for line in self.run(text, 1000, text[2:7] + b":").lines:
                self._on_registration(line)

    def read_operator(self):
        """Read the name of the operator into `operator`."""
        command = self.run(b"AT+COPS?", 2000, b"+COPS:")
        values = fields(command.lines[0]) if command.lines else []
        self.operator = printable(values[2]) if len(values) > 2 and isinstance(values[2], bytes) else ""

    def network_time(self):
        """Return (days since 1970, ms) UTC from the network; None if it is unknown."""
        command = self.run(b"AT+CCLK?", 1000, b"+CCLK:")
        return parse_clock(command.lines[0]) if command.lines else None

    def signal_dbm(self):
        """Return the RSRP, or the RSSI of AT+CSQ if the dialect reports none, in dBm; None if unknown."""
        text, prefix = self.dialect.SIGNAL
        command = self.run(text, 1000, prefix)
        dbm = self.dialect.parse_rsrp(fields(command.lines[0])) if command.lines else None
        if dbm is None:
            command = self.run(b"AT+CSQ", 1000, b"+CSQ:")
            rssi = fields(command.lines[0])[0] if command.lines else 99
            # TS 27.007, 8.5: 0 is -113 dBm or less, 31 is -51 dBm or more, 99 is unknown.
            dbm = 2 * rssi - 113 if isinstance(rssi, int) and 0 <= rssi <= 31 else None
        return dbm if dbm is not None and -127 <= dbm <= 0 else None

    def pdp_up(self):
        """Activate the data context.

        Raises:
            ModemError: the modem or the network rejected it.
        """
        dialect = self.dialect
        for text in dialect.pdp_setup(self._config):
            self.run_checked(text)
        self._pdp_result = None
        text, timeout_ms, result_ms, abort_ms = dialect.PDP_UP
        reason = None
        if self.run(text, timeout_ms).result != OK or result_ms and not self.wait_until(self._has_result, result_ms):
            self.run(dialect.PDP_DOWN, abort_ms)
            reason = "no data context"
        elif self._pdp_result:
            reason = "error %d" % self._pdp_result
        if reason is not None:
            raise ModemError("%s: %s; check the APN and the data plan" % (command_name(text), reason))
        self.pdp = True

    def _has_result(self):
        return self._pdp_result is not None

    # --- recovery ---------------------------------------------------------------------------------------------------

    def pdp_down(self):
        """Deactivate the data context."""
        self.pdp = False
        self.close_sockets()
        if self.dialect is not None:
            self.run(self.dialect.PDP_DOWN, _PDP_DOWN_MS)

    def restart_radio(self):
        """Switch the radio off and on, which starts a new search and a new attach."""
        self.pdp = self.sim = False
        self.close_sockets()
        self.registration = [0, 0]
        self.run(b"AT+CFUN=4", _RADIO_MS)
        self.run(b"AT+CFUN=1", _RADIO_MS)

    def reset(self):
        """Reset the modem with its reset line, or else with a command, and wait until it answers or its boot time."""
        self.resets += 1
        self.close_sockets()
        self._clear_state()
        if self._reset_pin is not None:
            self._pulse(self._reset_pin, _RESET_MS)
        else:
            self.run(b"AT+CFUN=1,1", 1000)
        self.wait_until(_never, 2000)
        self._probe(_BOOT_MS - 2000)

    def close_sockets(self):
        """Close every socket."""
        for s in self.sockets:
            if s is not None:
                s.close()

    # --- sockets ----------------------------------------------------------------------------------------------------

    def claim(self, s):
        """Return the socket number that `s` gets.

        Raises:
            OSError: ENOTCONN without a data context, EMFILE if all numbers are in use.
        """
        if self.dialect is None or not self.pdp:
            raise OSError(ENOTCONN)
        for number in range(SOCKETS):
            if self.sockets[number] is None:
                self.sockets[number] = s
                return number
        raise OSError(EMFILE)

    def unclaim(self, number, s):
        """Free a socket number, if it is still that of `s`."""
        if self.sockets[number] is s:
            self.sockets[number] = None

    def tcp(self, net):
        """Return a raw TCP stream, see compat.stream."""
        return ModemSocket(self, net)

    def udp(self, host, port):
        """Return a datagrams.ModemUdp to this peer.

        Raises:
            OSError: the modem did not open it.
        """
        from .datagrams import ModemUdp  # only live view needs it

        return ModemUdp(self, self._net, host, port)


def _never():
    return False
