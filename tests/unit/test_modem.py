"""Modem driver with answers from the manuals of both manufacturers.

tests/simulation tests it with an emulated network.
"""

from agent.modem import at, driver
from agent.modem.dialects import quectel, simcom
from compat.stream import Network, Stream

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


def error_of(function):
    """Return the text of the ModemError that function() raises."""
    try:
        function()
    except driver.ModemError as e:
        return str(e)
    raise AssertionError("no ModemError")


def test_start_to_connected_stream_in_both_dialects():
    for extra, iccid, dialect in (
        (None, b"89860025128306012474", quectel),
        (SIMCOM, b"89860318760238610932", simcom),
    ):
        modem, uart, net, log = make_connected_modem(extra)
        assert modem.dialect is dialect and modem.imei == b"867584030000017" and modem.iccid == iccid
        assert modem.registered and modem.roaming and modem.operator == "CHINA MOBILE"
        assert modem.network_time() == (20604, 16 * 3600000 + 30 * 60000 + 5000)  # local time less eight hours
        assert modem.signal_dbm() == (-81 if dialect is quectel else -85)
        stream = Stream(net, modem.tcp(net))
        stream.connect(("hub.example", 1883))
        assert modem.sockets[0] is not None and not [line for line in log if "8986" in line or "hub" in line]
        stream.close()
        assert modem.sockets[0] is None


def test_stream_sends_and_receives_in_both_dialects():
    data = b'\r\nOK\r\n+QIURC: "closed",0\r\n'
    for extra, send, urc in (
        (
            {
                b"AT+QISEND=0,4": b"> ",
                b"payload": b"SEND OK",
                b"AT+QIRD=0,512": b"+QIRD: %d\r\n" % len(data) + data + b"\r\n\r\nOK",
            },
            b"AT+QISEND=0,4\r",
            b'+QIURC: "recv",0',
        ),
        (
            merged(
                SIMCOM,
                {
                    b"AT+CIPSEND=0,4": b"> ",
                    b"payload": b"OK\r\n\r\n+CIPSEND: 0,4,4",
                    b"AT+CIPRXGET=2,0,512": b"+CIPRXGET: 2,0,%d,0\r\n" % len(data) + data + b"\r\n\r\nOK",
                },
            ),
            b"AT+CIPSEND=0,4\r",
            b"+CIPRXGET: 1,0",
        ),
    ):
        modem, uart, net, log = make_connected_modem(extra)
        stream = Stream(net, modem.tcp(net))
        stream.connect(("hub.example", 1883))
        stream.write(b"pi")
        stream.write(b"ng")
        stream.flush()
        assert uart.written[-2:] == [send, b"ping"]  # both writes in one packet
        stream.setblocking(False)
        assert stream.read(1) is None
        uart.deliver(urc)
        modem.poll()
        assert stream.read(len(data)) == data
        assert stream.read(1) is None


def test_failed_sends_raise():
    modem, uart, net, log = make_connected_modem({b"AT+QISEND=0,1": b"> ", b"payload": b"SEND FAIL"})
    stream = Stream(net, modem.tcp(net))
    stream.connect(("hub.example", 1883))
    stream.write(b"x")
    for errno in (110, 104):  # full send buffer: timeout; lost socket: connection reset
        try:
            stream.flush()
            raise AssertionError("sent")
        except OSError as e:
            assert e.args[0] == errno, e
        uart.answers[b"AT+QISEND=0,1"] = b"ERROR"


def test_start_errors_name_their_cause():
    silent = dict([(text, None) for text in QUECTEL])
    assert "no answer to AT" in error_of(make_modem(silent)[0].start)
    assert "FOREIGN is not supported" in error_of(make_modem({b"AT+CGMI": b"Foreign\r\n\r\nOK"})[0].start)
    assert "AT+CGMI" in error_of(make_modem({b"AT+CGMI": b"ERROR"})[0].start)
    for answer, words in (
        (b"+CME ERROR: 10", "no usable SIM"),
        (b"+CPIN: SIM PIN\r\n\r\nOK", "requires SIM PIN"),
        (b"+CPIN: NOT READY\r\n\r\nOK", "NOT READY"),
        (b"OK", "lacks the requested data"),
        (None, "no answer in 5000 ms"),
    ):
        modem = make_modem({b"AT+CPIN?": answer})[0]
        modem.start()
        assert words in error_of(modem.check_sim), answer


def test_data_context_errors_name_their_cause():
    for extra, words in (
        ({b"AT+QIACT=1": b"ERROR"}, "AT+QIACT: no data context; check the APN"),
        (merged(SIMCOM, {b"AT+NETOPEN": b"ERROR"}), "AT+NETOPEN: no data context; check the APN"),
        (merged(SIMCOM, {b"AT+NETOPEN": b"OK"}), "AT+NETOPEN: no data context; check the APN"),
        (merged(SIMCOM, {b"AT+NETOPEN": b"OK\r\n\r\n+NETOPEN: 3"}), "AT+NETOPEN: error 3; check the APN"),
    ):
        modem = make_modem(extra)[0]
        modem.start()
        assert words in error_of(modem.pdp_up) and not modem.pdp


class PowerKey:
    """Power key of a modem that is on 3 s after a press of at least 0.5 s."""

    def __init__(self):
        self.uart = None
        self.presses_ms = []
        self._pressed_ms = None

    def set(self, level):
        if level:
            self._pressed_ms = self.uart.clock_ms
        else:
            self.presses_ms.append(self.uart.clock_ms - self._pressed_ms)
            if self.presses_ms[-1] >= 500:
                self.uart.on_at_ms = self.uart.clock_ms + 3000


def test_power_key_is_pulsed_only_if_the_modem_does_not_answer():
    key = PowerKey()
    modem, uart, net, log = make_modem(key=key)
    key.uart = uart
    modem.start()
    assert modem.ready and key.presses_ms == []
    uart.on_at_ms = None
    modem.start()
    assert modem.ready and len(key.presses_ms) == 1 and 500 <= key.presses_ms[0] < 2500
    # Each failed attempt pulses it once.
    uart.on_at_ms = uart.clock_ms + 10**9
    levels = []
    key.set = levels.append
    assert "no answer to AT" in error_of(modem.start) and levels == [1, 0]


def test_unprintable_bytes_in_names_are_replaced():
    modem = make_modem({b"AT+COPS?": b'+COPS: 0,0,"CHI\xff\xc3 \x01",7\r\n\r\nOK'})[0]
    modem.start()
    modem.read_operator()
    assert modem.operator == "CHI?? ?"
    modem = make_modem({b"AT+CPIN?": b"+CPIN: SI\xcd PIN\r\n\r\nOK"})[0]
    modem.start()
    assert "SI? PIN" in error_of(modem.check_sim)


def test_urcs_change_the_state():
    modem, uart, net, log = make_connected_modem()
    for line, check in (
        (b"+CEREG: 2", lambda: not modem.registered),
        (b'+CEREG: 1,"1A2B","0123ABCD",7', lambda: modem.registered and not modem.roaming),
        (b'+QIURC: "pdpdeact",1', lambda: not modem.pdp),
        (b"+CPIN: NOT INSERTED", lambda: not modem.sim),
        (b"RDY", lambda: not modem.ready and log == ["modem: restarted unexpectedly"]),
    ):
        uart.deliver(line)
        modem.poll()
        assert check(), line


def test_malformed_urcs_are_ignored():
    for extra in (None, SIMCOM):
        modem, uart, net, log = make_connected_modem(extra)
        for line in (
            b"+QIURC:",
            b'+QIURC: "recv"',
            b'+QIURC: "recv",99999999999999',
            b'+QIURC: "closed","x"',
            b"+QIOPEN:",
            b"+QIOPEN: 0",
            b"+QIOPEN: -1,0",
            b"+CIPOPEN: x,y",
            b"+CIPRXGET: 1,",
            b"+IPCLOSE:",
            b"+NETOPEN:",
            b"+CEREG:",
            b"+CEREG: ,,,",
            b"+CGREG: 1,x",
            b"\xff\xfe\x00",
        ):
            uart.deliver(line)
            modem.poll()
        assert modem.run(b"AT").result == at.OK


def test_parse_clock():
    for text, expected in (
        (b'+CCLK: "26/11/24,10:11:12+32"', (20781, (2 * 3600 + 11 * 60 + 12) * 1000)),
        (b'+CCLK: "26/01/01,00:00:00-08"', (20454, 2 * 3600000)),
        (b'+CCLK: "26/01/01,03:00:00+32"', (20453, 19 * 3600000)),
        (b'+CCLK: "80/01/06,00:00:00+00"', None),  # default date of a modem without network time
        (b'+CCLK: "26/13/01,00:00:00+00"', None),
        (b'+CCLK: ""', None),
        (b"+CCLK: ", None),
        (b'+CCLK: "26/11/24,xx:11:12+32"', None),
    ):
        assert at.parse_clock(text) == expected, text


class UdpAnswers:
    """Commands and answers of a UDP socket in one dialect."""

    def __init__(self, dialect):
        is_quectel = dialect == "quectel"
        self.open = b'AT+QIOPEN=1,0,"UDP","hub.example",5004,0,0' if is_quectel else b'AT+CIPOPEN=0,"UDP",,,5000'
        self.opened = b"OK\r\n\r\n+QIOPEN: 0,0" if is_quectel else b"OK\r\n\r\n+CIPOPEN: 0,0"
        self.refused = b"OK\r\n\r\n+QIOPEN: 0,566" if is_quectel else b"+CIPOPEN: 0,1\r\n\r\nERROR"
        self.send = b"AT+QISEND=0,%d" if is_quectel else b'AT+CIPSEND=0,%d,"hub.example",5004'
        self.sent = b"SEND OK" if is_quectel else b"OK\r\n\r\n+CIPSEND: 0,4,4"
        self.data_urc = b'+QIURC: "recv",0' if is_quectel else b"+CIPRXGET: 1,0"
        self.read = b"AT+QIRD=0,128" if is_quectel else b"AT+CIPRXGET=2,0,128"
        self.close = b"AT+QICLOSE=0,1" if is_quectel else b"AT+CIPCLOSE=0"
        self.closed_urc = b'+QIURC: "closed",0' if is_quectel else b"+IPCLOSE: 0,1"
        self._is_quectel = is_quectel
        self.answers = merged(
            {} if is_quectel else SIMCOM, {self.open: self.opened, self.close: b"OK", b"payload": self.sent}
        )
        for n in range(1, 9):
            self.answers[self.send % n] = b"> "

    def data(self, *datagrams):
        """Return the answers to reads until the modem has no more data."""
        n = b"+QIRD: %d\r\n" if self._is_quectel else b"+CIPRXGET: 2,0,%d,0\r\n"
        none = b"+QIRD: 0\r\n\r\nOK" if self._is_quectel else b"+IP ERROR: No data\r\n\r\nERROR"
        return [n % len(data) + data + b"\r\n\r\nOK" for data in datagrams] + [none]


def make_udp(dialect):
    """Return (UdpAnswers, Modem, ModemUart, ModemUdp)."""
    udp = UdpAnswers(dialect)
    modem, uart, net, log = make_connected_modem(udp.answers)
    return udp, modem, uart, modem.udp("hub.example", 5004)


def settle(modem, uart, ms=0):
    """Run the submitted commands, then advance the clock."""
    for _ in range(6):
        modem.poll()
    uart.clock_ms += ms


def test_datagrams_are_sent_one_at_a_time_without_waiting():
    for dialect in ("quectel", "simcom"):
        udp, modem, uart, s = make_udp(dialect)
        assert modem.sockets[0] is s and s.ready()
        written, clock_ms = len(uart.written), uart.clock_ms
        s.send(b"ping")
        assert not s.ready() and len(uart.written) == written and uart.clock_ms == clock_ms
        settle(modem, uart)
        assert uart.written[written:] == [udp.send % 4 + b"\r", b"ping"] and s.ready()
        # One datagram is queued during a transmission; a third one is lost.
        for data in (b"1", b"22", b"333"):
            s.send(data)
        settle(modem, uart)
        settle(modem, uart)
        assert [data for data in uart.written[written + 2 :] if b"AT" not in data] == [b"1", b"22"] and s.ready()
        # A command of a stream runs after a queued datagram.
        s.send(b"ping")
        modem.run(b"AT")
        assert uart.written[-3:] == [udp.send % 4 + b"\r", b"ping", b"AT\r"]
        # close() runs after the sends, and frees the socket number at once.
        s.send(b"bye")
        s.close()
        assert modem.sockets[0] is None and not s.ready()
        s.send(b"late")
        settle(modem, uart)
        assert uart.written[-3:] == [udp.send % 3 + b"\r", b"bye", udp.close + b"\r"]


def test_reads_continue_until_no_datagram_is_left():
    for dialect in ("quectel", "simcom"):
        udp, modem, uart, s = make_udp(dialect)
        buf = bytearray(8)
        for with_urc in (True, False):  # without the URC, the socket is read after a while
            answers = udp.data(b"OK\r\n", b"a longer one")
            if with_urc:
                uart.deliver(udp.data_urc)
            else:
                uart.clock_ms += 3000
            modem.poll()
            received = []
            for _ in range(len(answers)):
                uart.answers[udp.read] = answers.pop(0)
                assert s.recv_into(buf) == 0  # submits the read
                settle(modem, uart)
                n = s.recv_into(buf)
                if n:
                    received.append(bytes(buf[:n]))
            assert received == [b"OK\r\n", b"a longer"], (dialect, with_urc, received)
            written = len(uart.written)
            assert s.recv_into(buf) == 0
            settle(modem, uart)
            assert len(uart.written) == written  # no URC, and the read interval is not over


def test_refused_open_raises_and_frees_the_number():
    for dialect in ("quectel", "simcom"):
        udp = UdpAnswers(dialect)
        for answer, errno in ((udp.refused, 111), (b"ERROR", 111), (b"OK", 110)):
            modem, uart, net, log = make_connected_modem(merged(udp.answers, {udp.open: answer}))
            try:
                modem.udp("hub.example", 5004)
                raise AssertionError("open")
            except OSError as e:
                assert e.args[0] == errno, (dialect, answer, e)
            assert modem.sockets == [None] * driver.SOCKETS
        modem.pdp = False
        try:
            modem.udp("hub.example", 5004)
            raise AssertionError("open")
        except OSError as e:
            assert e.args[0] == 107


def lose_context(modem, uart):
    """Lose the data context, as a modem of the dialect reports it."""
    uart.deliver(b'+QIURC: "pdpdeact",1' if modem.dialect is quectel else b"+CIPEVENT: NETWORK CLOSED UNEXPECTEDLY")
    modem.poll()
    assert not modem.pdp


def test_lost_socket_is_reopened():
    for dialect in ("quectel", "simcom"):
        for cause in ("urc", "refused", "context", "closed"):
            udp, modem, uart, s = make_udp(dialect)
            uart.clock_ms += 5000
            if cause == "urc":
                uart.deliver(udp.closed_urc)
            elif cause == "refused":  # a send fails, without a URC
                uart.answers[udp.send % 4] = b"ERROR"
                s.send(b"ping")
            elif cause == "closed":
                modem.close_sockets()
            else:
                lose_context(modem, uart)
            settle(modem, uart)
            uart.answers[udp.send % 4] = b"> "
            if cause == "context":
                written = len(uart.written)
                assert not s.ready()
                s.send(b"lost")
                settle(modem, uart)
                assert len(uart.written) == written  # not without a data context
                modem.pdp_up()
            assert not s.ready()
            settle(modem, uart)
            assert s.ready() and modem.sockets[0] is s, (dialect, cause)
            s.send(b"ping")
            settle(modem, uart)
            assert uart.written[-1] == b"ping"


def test_reopening_is_rate_limited():
    for dialect in ("quectel", "simcom"):
        udp, modem, uart, s = make_udp(dialect)
        uart.answers[udp.open] = udp.refused
        uart.deliver(udp.closed_urc)
        uart.clock_ms += 5000
        modem.poll()
        opens = uart.written.count(udp.open + b"\r")
        for _ in range(100):
            assert not s.ready()
            settle(modem, uart, 100)
        assert 3 <= uart.written.count(udp.open + b"\r") - opens <= 4  # every 3 s
        # No further command is sent to a modem that does not answer: the AT queue has to have space for the session.
        uart.answers[udp.open] = uart.answers[udp.close] = None
        for _ in range(300):
            s.ready()
            settle(modem, uart, 100)
            assert len(modem.at._queue) <= 2


def test_unanswered_send_blocks_further_ones():
    udp, modem, uart, s = make_udp("quectel")
    uart.answers[udp.send % 4] = None
    for _ in range(50):
        s.send(b"ping")
        s.recv_into(bytearray(8))
        uart.clock_ms += 20
        modem.poll()
    assert not s.ready() and modem.at.timeouts == 0
    uart.answers[udp.send % 4] = b"> "
    for _ in range(600):
        uart.clock_ms += 20
        modem.poll()
    assert modem.at.timeouts == 1 and s.ready()
    assert modem.run(b"AT").result == at.OK
