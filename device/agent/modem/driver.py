"""The 4G modem: bring-up, registration, data context and sockets, over AT commands on a UART.

3GPP TS 27.007 throughout; what makers do their own way is in `quectel` and `simcom`. Commands are run one by one; while
one waits for its answer the receiver is served. Logs name cells and operators, never numbers, addresses or payloads.
"""

from agent.gps import fix as gps

from .at import ERROR, OK, TIMEOUT, AtChannel, Command, numbers
from .sockets import EMFILE, ENOTCONN, ModemSocket

SOCKETS = 6
_BOOT_MS = 20000
_ASK_MS = 1500  # three questions
_SILENCES = 3
_ROAMING = 5
_CPIN_ABSENT = (10, 13, 14, 15)  # TS 27.007 9.2.1: SIM not inserted, failure, busy, wrong
_RESET_MS = 300  # RESET_N low: EC200 and EG25 want 150 ms or more, SIM7600 and A7670 100 ms or more
_KEY_MS = 1000  # PWRKEY low: EG25 and SIM7600 want 500 ms, A7670 50 ms; the SIMComs go off at 2.5 s


class ModemFault(Exception):
    """The modem or its network does not do what was asked; the text says what and why."""


class Modem:
    """
    uart     hal contract: readinto(buf) -> n, write(buf), wait(ms)
    reset    hal Pin of the modem's reset line, or None: then AT+CFUN=1,1 has to do
    key      hal Pin of its power key, or None: then it starts when it gets power
    config   {"apn"} and optionally "user", "password", and "edrx", TS 24.008 10.5.5.32's four bits as text; without
             it eDRX and PSM are off, because a device on patrol is to be reached at once
    """

    faults = (ModemFault,)

    def __init__(self, uart, reset, key, net, log, config):
        self._uart = uart
        self._reset = reset
        self._key = key
        self._net = net
        self._log = log
        self.config = config
        self.at = AtChannel(uart.write, self._on_urc)
        self._buf = bytearray(256)
        self.dialect = None
        self.sockets = [None] * SOCKETS
        self.imei = self.iccid = b""
        self.operator = ""
        self.resets = 0
        self._silent = 0  # commands without an answer, one after another
        self._forget()

    def _forget(self):
        """What a modem knows no more once it has started anew."""
        self.ready = False  # answers, and is set up
        self.sim = False
        self.registration = [0, 0]  # <stat> of CGREG and CEREG
        self.pdp = False
        self.net_result = None  # of the last +NETOPEN
        self.drop_sockets()

    def drop_sockets(self):
        """The modem's sockets are gone: let their owners find out."""
        for s in self.sockets:
            if s is not None:
                s.closed = True

    # --- the line ---------------------------------------------------------------------------------------------------

    def pump(self, ms=0):
        """Take what the modem says, for up to `ms` until it says something; write the next command."""
        if ms:
            self._uart.wait(ms)
        now = self._net.now_ms()
        for _ in range(16):
            n = self._uart.readinto(self._buf)
            if not n:
                break
            self.at.feed(self._buf, n, now)
        self.at.poll(now)

    def run(self, text, timeout_ms=1000, prefix=None, **more):
        """Run one command to its end and return it; the receiver is served meanwhile."""
        command = self.at.submit(Command(text, timeout_ms, prefix, **more))
        self.pump()
        while command.result is None:
            self.pump(self._net.slice_ms)
            self._net.serve()
        self._silent = self._silent + 1 if command.result == TIMEOUT else 0
        if self._silent >= _SILENCES and self.ready:
            self._log("modem: %d commands without an answer" % self._silent)
            self._forget()
        return command

    def must(self, text, timeout_ms=1000, prefix=None, **more):
        """Run a command that has to succeed. ModemFault tells which one did not."""
        command = self.run(text, timeout_ms, prefix, **more)
        if command.result != OK or prefix is not None and not command.lines:
            raise ModemFault("%s: %s" % (_name(text), _outcome(command)))
        return command

    def await_(self, done, timeout_ms):
        """Serve until done() is true; False when the time is up."""
        deadline = self._net.now_ms() + timeout_ms
        while not done():
            if self._net.now_ms() >= deadline:
                return False
            self.pump(self._net.slice_ms)
            self._net.serve()
        return True

    def _on_urc(self, line):
        if line.startswith((b"+CEREG:", b"+CGREG:")):
            self._on_registration(line)
        elif line in (b"RDY", b"*ATREADY: 1", b"POWERED DOWN", b"NORMAL POWER DOWN"):
            if self.ready:
                self._log("modem: it started anew")
            self._forget()
        elif line in (b"+CPIN: NOT READY", b"+CPIN: NOT INSERTED", b"+SIMCARD: NOT AVAILABLE", b"+CME ERROR: 10"):
            self.sim = False
        elif self.dialect is not None:
            self.dialect.on_urc(self, line)

    def _on_registration(self, line):
        """As an answer +CEREG: <n>,<stat>[,"..."], unasked +CEREG: <stat>[,"..."] (TS 27.007 10.1.22)."""
        n = numbers(line)
        stat = n[1] if len(n) > 1 and isinstance(n[1], int) else n[0]
        if isinstance(stat, int):
            self.registration[1 if line.startswith(b"+CE") else 0] = stat

    @property
    def registered(self):
        """True at home or roaming, in EPS or GPRS."""
        return any([stat in (1, _ROAMING) for stat in self.registration])

    @property
    def roaming(self):
        return _ROAMING in self.registration

    # --- rungs, from the modem's first word to a data context -------------------------------------------------------

    def start(self):
        """Make it answer, learn who it is, set it up. ModemFault when it stays silent or speaks another dialect."""
        if not self._answers(_ASK_MS) and not self._switch_on():
            raise ModemFault("no answer to AT; is it powered, and at this baud rate?")
        self._forget()
        self.run(b"ATE0")
        self.run(b"AT+CMEE=1")
        self.dialect = self._dialect()
        # A modem that went on while the agent began anew still has its sockets and context; they are nobody's.
        for text, timeout_ms in self.dialect.setup:
            self.run(text, timeout_ms)
        edrx = self.config.get("edrx")
        if edrx:
            self.run(b'AT+CEDRXS=1,4,"%s"' % edrx.encode())
        else:
            self.run(b"AT+CEDRXS=0")
            self.run(b"AT+CPSMS=0")
        self.run(b"AT+CGREG=1")
        self.must(b"AT+CEREG=1")
        self.imei = self.must(b"AT+CGSN", 1000, b"").lines[0]
        self.ready = True

    def _answers(self, ms):
        """Ask for `ms` at most until it answers."""
        deadline = self._net.now_ms() + ms
        while self.run(b"AT", 300).result != OK:
            if self._net.now_ms() >= deadline:
                return False
        return True

    def _switch_on(self):
        """Press the power key, if there is one. Never while it answers: on most modems the key switches off, too."""
        if self._key is None:
            return False
        self._log("modem: it is silent; pressing its power key")
        self._pulse(self._key, _KEY_MS)
        return self._answers(_BOOT_MS)

    def _pulse(self, pin, ms):
        pin.set(1)
        self.await_(_never, ms)
        pin.set(0)

    def _dialect(self):
        maker = b" ".join(self.must(b"AT+CGMI", 1000, b"").lines).upper()
        if b"QUECTEL" in maker:
            from .dialects import quectel

            return quectel
        if b"SIMCOM" in maker:
            from .dialects import simcom

            return simcom
        raise ModemFault("a maker whose dialect is not spoken (Quectel and SIMCom are)")

    def check_sim(self):
        """ModemFault when there is none, or it asks for a PIN."""
        command = self.run(b"AT+CPIN?", 5000, b"+CPIN:")
        if command.result == ERROR and command.code in _CPIN_ABSENT:
            raise ModemFault("no usable SIM (+CME ERROR: %d); is it in its slot?" % command.code)
        if command.result != OK or not command.lines:
            raise ModemFault("AT+CPIN?: %s" % _outcome(command))
        if b"READY" not in command.lines[0] or b"NOT" in command.lines[0]:
            raise ModemFault("the SIM asks for %s; take its PIN off" % plain(command.lines[0][6:].strip()))
        text, prefix = self.dialect.ICCID
        command = self.run(text, 1000, prefix)
        if command.result == OK and command.lines:
            self.iccid = command.lines[0][len(prefix) :].strip().strip(b'"')
        self.sim = True

    def look_for_network(self):
        """Ask how registration stands: what was said unasked may have been lost."""
        for text in (b"AT+CEREG?", b"AT+CGREG?"):
            for line in self.run(text, 1000, text[2:7] + b":").lines:
                self._on_registration(line)

    def read_operator(self):
        """Who serves us, for the log."""
        command = self.run(b"AT+COPS?", 2000, b"+COPS:")
        n = numbers(command.lines[0]) if command.lines else []
        self.operator = plain(n[2]) if len(n) > 2 and isinstance(n[2], bytes) else ""

    def clock(self):
        """Return (day, ms) UTC by the network's time, None when it has told none.

        AT+CCLK (TS 27.007 8.15): "yy/MM/dd,hh:mm:ss+zz", local time and its quarters of an hour.
        """
        command = self.run(b"AT+CCLK?", 1000, b"+CCLK:")
        return parse_clock(command.lines[0]) if command.lines else None

    def signal_dbm(self):
        """Return RSRP in dBm, or CSQ's RSSI where the maker's command says none; None when unknown."""
        text, prefix = self.dialect.SIGNAL
        command = self.run(text, 1000, prefix)
        dbm = self.dialect.rsrp(numbers(command.lines[0])) if command.lines else None
        if dbm is None:
            command = self.run(b"AT+CSQ", 1000, b"+CSQ:")
            rssi = numbers(command.lines[0])[0] if command.lines else 99
            # TS 27.007 8.5: 0 is -113 dBm or less, 31 is -51 or more, 99 not known
            dbm = 2 * rssi - 113 if isinstance(rssi, int) and 0 <= rssi <= 31 else None
        return dbm if dbm is not None and -127 <= dbm <= 0 else None

    def pdp_up(self):
        """Activate the data context."""
        self.dialect.pdp_up(self)
        self.pdp = True

    # --- remedies ---------------------------------------------------------------------------------------------------

    def pdp_down(self):
        """Give the data context up."""
        self.pdp = False
        self.close_sockets()
        if self.dialect is not None:
            self.run(self.dialect.PDP_DOWN, 40000)

    def radio_restart(self):
        """Radio off and on: a new search, a new attach."""
        self.pdp = self.sim = False
        self.close_sockets()
        self.registration = [0, 0]
        self.run(b"AT+CFUN=4", 15000)
        self.run(b"AT+CFUN=1", 15000)

    def reset(self):
        """Pull the reset line, else command a restart; then wait for its first word, or its boot time."""
        self.resets += 1
        self.close_sockets()
        self._forget()
        if self._reset is not None:
            self._pulse(self._reset, _RESET_MS)
        else:
            self.run(b"AT+CFUN=1,1", 1000)
        self.await_(_never, 2000)
        self._answers(_BOOT_MS - 2000)

    def close_sockets(self):
        """Let go of every socket."""
        for s in self.sockets:
            if s is not None:
                s.close()

    # --- sockets ----------------------------------------------------------------------------------------------------

    def socket(self, number):
        """Return the open socket of a number that the modem named; None for anything else."""
        return self.sockets[number] if isinstance(number, int) and 0 <= number < SOCKETS else None

    def claim(self, s):
        """Give a socket a number of its own, `id`. OSError when there is no data context or no number."""
        if self.dialect is None or not self.pdp:
            raise OSError(ENOTCONN)
        free = [i for i, other in enumerate(self.sockets) if other is None]
        if not free:
            raise OSError(EMFILE)
        s.id = free[0]
        self.sockets[s.id] = s

    def tcp(self, net):
        """Return a raw TCP stream (see compat.stream)."""
        return ModemSocket(self, net)

    def udp(self, host, port):
        """Return a datagrams.ModemUdp to this peer. OSError when the modem does not open one."""
        from .datagrams import ModemUdp

        return ModemUdp(self, self._net, host, port)


def _never():
    return False


def _name(text):
    """A command without what it is given: that may hold names and passwords."""
    return str(text.split(b"=")[0], "ascii")


def plain(text):
    """Return bytes from the modem as text for a log, whatever they are."""
    return "".join([chr(byte) if 32 <= byte < 127 else "?" for byte in text[:40]])


def _outcome(command):
    if command.result == OK:
        return "an answer without what was asked for"
    if command.result == ERROR:
        return "ERROR" if command.code < 0 else "error %d" % command.code
    return "no answer in %d ms" % command.timeout_ms


def parse_clock(line):
    """Return (day, ms) UTC of a +CCLK line; None for a modem's default date (before 2020) or nonsense."""
    text = line[line.find(b'"') + 1 : line.rfind(b'"')]
    try:
        year, month, day = [int(text[i : i + 2]) for i in (0, 3, 6)]
        hour, minute, second = [int(text[i : i + 2]) for i in (9, 12, 15)]
        quarters = int(text[17:20])
    except ValueError:
        return None
    if not (20 <= year < 70 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    seconds = hour * 3600 + minute * 60 + second - quarters * 900
    return gps.days_from_civil(2000 + year, month, day) + seconds // 86400, seconds % 86400 * 1000
