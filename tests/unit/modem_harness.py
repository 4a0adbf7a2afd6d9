"""Modem driver on the UART of a scripted modem, with answers from the manuals of both manufacturers."""

from agent.modem import driver
from compat.stream import Network

QUECTEL = {
    b"AT": b"OK",
    b"ATE0": b"OK",
    b"AT+CMEE=1": b"OK",
    b"AT+CTZU=1": b"OK",
    b"AT+CEDRXS=0": b"OK",
    b"AT+CPSMS=0": b"+CME ERROR: 4",
    b"AT+CGREG=1": b"OK",
    b"AT+CEREG=1": b"OK",
    b"AT+CGSN": b"867584030000017\r\n\r\nOK",
    b"AT+CPIN?": b"+CPIN: READY\r\n\r\nOK",
    b"AT+CEREG?": b"+CEREG: 1,5\r\n\r\nOK",
    b"AT+CGREG?": b"+CGREG: 1,0\r\n\r\nOK",
    b"AT+COPS?": b'+COPS: 0,0,"CHINA MOBILE",7\r\n\r\nOK',
    b"AT+CCLK?": b'+CCLK: "26/06/01,00:30:05+32"\r\n\r\nOK',
    b"AT+CSQ": b"+CSQ: 20,99\r\n\r\nOK",
    b"AT+CGMI": b"Quectel\r\n\r\nOK",
    b"AT+QIDEACT=1": b"OK",
    b"AT+QCCID": b"+QCCID: 89860025128306012474\r\n\r\nOK",
    b"AT+QCSQ": b'+QCSQ: "LTE",-52,-81,195,-10\r\n\r\nOK',
    b'AT+QICSGP=1,1,"cmnet"': b"OK",
    b"AT+QIACT=1": b"OK",
    b'AT+QIOPEN=1,0,"TCP","hub.example",1883,0,0': b"OK\r\n\r\n+QIOPEN: 0,0",
}
# Answers of a SIMCom modem that QUECTEL lacks or that differ from it.
SIMCOM = {
    b"AT+CGMI": b"SIMCOM INCORPORATED\r\n\r\nOK",
    b"AT+NETCLOSE": b"+NETCLOSE: 2\r\n\r\nERROR",
    b"AT+CICCID": b"+ICCID: 89860318760238610932\r\n\r\nOK",
    b"AT+CPSI?": b"+CPSI: LTE,Online,460-11,0x5A1E,187214780,257,EUTRAN-BAND3,1850,5,5,-94,-850,-545,15\r\n\r\nOK",
    b'AT+CGDCONT=1,"IP","cmnet"': b"OK",
    b"AT+CIPRXGET=1": b"OK",
    b"AT+NETOPEN": b"OK\r\n\r\n+NETOPEN: 0",
    b'AT+CIPOPEN=0,"TCP","hub.example",1883': b"OK\r\n\r\n+CIPOPEN: 0,0",
}


class ModemUart:
    """UART of a modem with a dictionary of answers. A command that is not in it gets ERROR.

    The clock advances in waits only. `answers` maps a command to its answer, or to None for no answer, and b"payload"
    to the answer to a sent payload. The modem is off before `on_at_ms`, and always if that is None.
    """

    def __init__(self, answers):
        self.answers = answers
        self.clock_ms = 0
        self.rx = bytearray()
        self.written = []
        self.on_at_ms = 0

    def now_ms(self):
        return self.clock_ms

    def wait(self, ms):
        if not self.rx:
            self.clock_ms += ms

    def readinto(self, buf):
        n = min(len(buf), len(self.rx))
        buf[:n] = self.rx[:n]
        self.rx = self.rx[n:]
        return n

    def write(self, data):
        data = bytes(data)
        self.written.append(data)
        if self.on_at_ms is None or self.clock_ms < self.on_at_ms:
            return
        if data[-1:] == b"\r":
            answer = self.answers.get(data[:-1], b"ERROR")
            if answer is not None:
                self.rx += b"\r\n" + answer + (b"" if answer == b"> " else b"\r\n")
        elif b"payload" in self.answers:
            self.rx += b"\r\n" + self.answers[b"payload"] + b"\r\n"

    def deliver(self, line):
        """Send a line from the modem to the driver."""
        self.rx += b"\r\n" + line + b"\r\n"


def merged(*dictionaries):
    out = {}
    for dictionary in dictionaries:
        out.update(dictionary)
    return out


def make_modem(extra=None, config=None, key=None):
    """Return (Modem, ModemUart, Network, log) before `start`; `extra` answers replace those of QUECTEL."""
    uart = ModemUart(merged(QUECTEL, extra or {}))
    log = []
    net = Network(uart.now_ms, lambda: None, 5000)
    modem = driver.Modem(uart, None, key, net, log.append, config or {"apn": "cmnet"})
    return modem, uart, net, log


def make_connected_modem(extra=None):
    """Return (Modem, ModemUart, Network, log) with an active data context."""
    modem, uart, net, log = make_modem(extra)
    modem.start()
    modem.check_sim()
    modem.read_registration()
    modem.read_operator()
    modem.pdp_up()
    return modem, uart, net, log
