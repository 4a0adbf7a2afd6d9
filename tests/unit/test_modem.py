"""The driver against lines of both makers' manuals. The whole modem, network and all, is in tests/faults."""

from agent.modem import at, driver
from agent.modem.dialects import quectel, simcom
from compat.stream import Network

MANUAL = {
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


class Uart:
    """Answers by the book; a command that is not in it gets ERROR. Time passes only in waits."""

    def __init__(self, book):
        self.book = book
        self.now = 0
        self.rx = bytearray()
        self.wrote = []
        self.on_at = 0  # None: off

    def now_ms(self):
        return self.now

    def wait(self, ms):
        if not self.rx:
            self.now += ms

    def readinto(self, buf):
        n = min(len(buf), len(self.rx))
        buf[:n] = self.rx[:n]
        self.rx = self.rx[n:]
        return n

    def write(self, data):
        data = bytes(data)
        self.wrote.append(data)
        if self.on_at is None or self.now < self.on_at:
            return
        if data[-1:] == b"\r":
            answer = self.book.get(data[:-1], b"ERROR")
            if answer is not None:
                self.rx += b"\r\n" + answer + (b"" if answer == b"> " else b"\r\n")
        elif b"payload" in self.book:
            self.rx += b"\r\n" + self.book[b"payload"] + b"\r\n"


def modem(extra=None, config=None, key=None):
    book = dict(MANUAL)
    book.update(extra or {})
    uart = Uart(book)
    log = []
    net = Network(uart.now_ms, lambda: None, None, 5000)
    it = driver.Modem(uart, None, key, net, log.append, config or {"apn": "cmnet"})
    net.raw = it.tcp
    return it, uart, net, log


def brought_up(extra=None):
    it, uart, net, log = modem(extra)
    it.start()
    it.check_sim()
    it.look_for_network()
    it.read_operator()
    it.pdp_up()
    return it, uart, net, log


def fault(function):
    try:
        function()
    except driver.ModemFault as e:
        return str(e)
    raise AssertionError("no ModemFault")


def test_both_dialects_by_the_book():
    for extra, iccid, dialect in (
        (None, b"89860025128306012474", quectel),
        (SIMCOM, b"89860318760238610932", simcom),
    ):
        it, uart, net, log = brought_up(extra)
        assert it.dialect is dialect and it.imei == b"867584030000017" and it.iccid == iccid
        assert it.registered and it.roaming and it.operator == "CHINA MOBILE"
        assert it.clock() == (20604, 16 * 3600000 + 30 * 60000 + 5000)  # local time less eight hours
        assert it.signal_dbm() == (-81 if dialect is quectel else -85)
        stream = net.socket()
        stream.connect(("hub.example", 1883))
        assert it.sockets[0] is not None and not [line for line in log if "8986" in line or "hub" in line]
        stream.close()
        assert it.sockets[0] is None


def test_send_and_receive_by_the_book():
    data = b'\r\nOK\r\n+QIURC: "closed",0\r\n'
    for extra, sent, urc in (
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
            dict(
                list(SIMCOM.items())
                + [
                    (b"AT+CIPSEND=0,4", b"> "),
                    (b"payload", b"OK\r\n\r\n+CIPSEND: 0,4,4"),
                    (b"AT+CIPRXGET=2,0,512", b"+CIPRXGET: 2,0,%d,0\r\n" % len(data) + data + b"\r\n\r\nOK"),
                ]
            ),
            b"AT+CIPSEND=0,4\r",
            b"+CIPRXGET: 1,0",
        ),
    ):
        it, uart, net, log = brought_up(extra)
        stream = net.socket()
        stream.connect(("hub.example", 1883))
        stream.write(b"pi")
        stream.write(b"ng")
        stream.flush()
        assert uart.wrote[-2:] == [sent, b"ping"]  # one write a packet
        stream.setblocking(False)
        assert stream.read(1) is None
        uart.rx += b"\r\n" + urc + b"\r\n"
        it.pump()
        assert stream.read(len(data)) == data
        assert stream.read(1) is None


def test_sends_that_fail():
    it, uart, net, log = brought_up({b"AT+QISEND=0,1": b"> ", b"payload": b"SEND FAIL"})
    stream = net.socket()
    stream.connect(("hub.example", 1883))
    stream.write(b"x")
    for wanted in (110, 104):  # a buffer that stays full times out; a socket that is gone is reset
        try:
            stream.flush()
            raise AssertionError("sent")
        except OSError as e:
            assert e.args[0] == wanted, e
        uart.book[b"AT+QISEND=0,1"] = b"ERROR"


def test_a_modem_that_does_not_do_its_part():
    silent = dict([(text, None) for text in MANUAL])
    assert "no answer to AT" in fault(modem(silent)[0].start)
    assert "dialect is not spoken" in fault(modem({b"AT+CGMI": b"Foreign\r\n\r\nOK"})[0].start)
    assert "AT+CGMI" in fault(modem({b"AT+CGMI": b"ERROR"})[0].start)
    for answer, words in (
        (b"+CME ERROR: 10", "no usable SIM"),
        (b"+CPIN: SIM PIN\r\n\r\nOK", "asks for SIM PIN"),
        (b"+CPIN: NOT READY\r\n\r\nOK", "NOT READY"),
        (b"OK", "without what was asked"),
        (None, "no answer in 5000 ms"),
    ):
        it = modem({b"AT+CPIN?": answer})[0]
        it.start()
        assert words in fault(it.check_sim), answer
    it = modem({b"AT+QIACT=1": b"ERROR"})[0]
    it.start()
    assert "APN" in fault(it.pdp_up) and not it.pdp


class Key:
    """A power key: a modem that is off comes on 3 s after it was held for half a second."""

    def __init__(self):
        self.uart = None
        self.presses = []
        self._since = None

    def set(self, level):
        if level:
            self._since = self.uart.now
        else:
            self.presses.append(self.uart.now - self._since)
            if self.presses[-1] >= 500:
                self.uart.on_at = self.uart.now + 3000


def test_a_modem_that_is_off_is_switched_on_and_one_that_is_on_is_left_alone():
    key = Key()
    it, uart, net, log = modem(key=key)
    key.uart = uart
    it.start()
    assert it.ready and key.presses == []
    uart.on_at = None
    it.start()
    assert it.ready and len(key.presses) == 1 and 500 <= key.presses[0] < 2500
    # One that stays dead is pressed once a try.
    uart.on_at = uart.now + 10**9
    key.set = lambda level: key.presses.append(level)
    assert "no answer to AT" in fault(it.start) and key.presses[1:] == [1, 0]


def test_names_that_the_line_has_spoilt_are_shown_not_stumbled_over():
    it = modem({b"AT+COPS?": b'+COPS: 0,0,"CHI\xff\xc3 \x01",7\r\n\r\nOK'})[0]
    it.start()
    it.read_operator()
    assert it.operator == "CHI?? ?"
    it = modem({b"AT+CPIN?": b"+CPIN: SI\xcd PIN\r\n\r\nOK"})[0]
    it.start()
    assert "SI? PIN" in fault(it.check_sim)


def test_what_comes_unasked_changes_the_state():
    it, uart, net, log = brought_up()
    for line, check in (
        (b"+CEREG: 2", lambda: not it.registered),
        (b'+CEREG: 1,"1A2B","0123ABCD",7', lambda: it.registered and not it.roaming),
        (b'+QIURC: "pdpdeact",1', lambda: not it.pdp),
        (b"+CPIN: NOT INSERTED", lambda: not it.sim),
        (b"RDY", lambda: not it.ready and log == ["modem: it started anew"]),
    ):
        uart.rx += b"\r\n" + line + b"\r\n"
        it.pump()
        assert check(), line


def test_urcs_of_any_shape_are_survived():
    for extra in (None, SIMCOM):
        it, uart, net, log = brought_up(extra)
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
            uart.rx += b"\r\n" + line + b"\r\n"
            it.pump()
        assert it.run(b"AT").result == at.OK


def test_the_network_clock():
    for text, expected in (
        (b'+CCLK: "26/11/24,10:11:12+32"', (20781, (2 * 3600 + 11 * 60 + 12) * 1000)),
        (b'+CCLK: "26/01/01,00:00:00-08"', (20454, 2 * 3600000)),
        (b'+CCLK: "26/01/01,03:00:00+32"', (20453, 19 * 3600000)),
        (b'+CCLK: "80/01/06,00:00:00+00"', None),  # a modem that was never told
        (b'+CCLK: "26/13/01,00:00:00+00"', None),
        (b'+CCLK: ""', None),
        (b"+CCLK: ", None),
        (b'+CCLK: "26/11/24,xx:11:12+32"', None),
    ):
        assert driver.parse_clock(text) == expected, text


class Peer:
    """What both makers say of a UDP socket: an Uart's book that is given a prompt for each datagram."""

    def __init__(self, dialect):
        quectel_like = dialect == "quectel"
        self.open = b'AT+QIOPEN=1,0,"UDP","hub.example",5004,0,0' if quectel_like else b'AT+CIPOPEN=0,"UDP",,,5000'
        self.opened = b"OK\r\n\r\n+QIOPEN: 0,0" if quectel_like else b"OK\r\n\r\n+CIPOPEN: 0,0"
        self.refused = b"OK\r\n\r\n+QIOPEN: 0,566" if quectel_like else b"+CIPOPEN: 0,1\r\n\r\nERROR"
        self.send = b"AT+QISEND=0,%d" if quectel_like else b'AT+CIPSEND=0,%d,"hub.example",5004'
        self.sent = b"SEND OK" if quectel_like else b"OK\r\n\r\n+CIPSEND: 0,4,4"
        self.come = b'+QIURC: "recv",0' if quectel_like else b"+CIPRXGET: 1,0"
        self.read = b"AT+QIRD=0,128" if quectel_like else b"AT+CIPRXGET=2,0,128"
        self.close = b"AT+QICLOSE=0,1" if quectel_like else b"AT+CIPCLOSE=0"
        self.gone = b'+QIURC: "closed",0' if quectel_like else b"+IPCLOSE: 0,1"
        self._quectel = quectel_like
        extra = {} if quectel_like else SIMCOM
        self.book = dict(list(extra.items()) + [(self.open, self.opened), (self.close, b"OK"), (b"payload", self.sent)])
        for n in range(1, 9):
            self.book[self.send % n] = b"> "

    def data(self, *datagrams):
        """The answers to reads that empty the modem."""
        n = b"+QIRD: %d\r\n" if self._quectel else b"+CIPRXGET: 2,0,%d,0\r\n"
        none = b"+QIRD: 0\r\n\r\nOK" if self._quectel else b"+IP ERROR: No data\r\n\r\nERROR"
        return [n % len(data) + data + b"\r\n\r\nOK" for data in datagrams] + [none]


def udp(dialect, extra=None):
    peer = Peer(dialect)
    it, uart, net, log = brought_up(dict(list(peer.book.items()) + list((extra or {}).items())))
    return peer, it, uart, it.udp("hub.example", 5004)


def settle(it, uart, ms=0):
    for _ in range(6):
        it.pump()
    uart.now += ms


def test_datagrams_go_one_at_a_time_and_nothing_waits_for_them():
    for dialect in ("quectel", "simcom"):
        peer, it, uart, s = udp(dialect)
        assert it.sockets[0] is s and s.ready()
        before, now = len(uart.wrote), uart.now
        s.send(b"ping")
        assert not s.ready() and len(uart.wrote) == before and uart.now == now
        settle(it, uart)
        assert uart.wrote[before:] == [peer.send % 4 + b"\r", b"ping"] and s.ready()
        # One more finds room behind one that has not gone; the third is lost.
        for data in (b"1", b"22", b"333"):
            s.send(data)
        settle(it, uart)
        settle(it, uart)
        assert [it for it in uart.wrote[before + 2 :] if b"AT" not in it] == [b"1", b"22"] and s.ready()
        # A stream's command stands behind it.
        s.send(b"ping")
        it.run(b"AT")
        assert uart.wrote[-3:] == [peer.send % 4 + b"\r", b"ping", b"AT\r"]
        # What was sent goes before the modem is told, and its number is free at once.
        s.send(b"bye")
        s.close()
        assert it.sockets[0] is None and not s.ready()
        s.send(b"late")
        settle(it, uart)
        assert uart.wrote[-3:] == [peer.send % 3 + b"\r", b"bye", peer.close + b"\r"]


def test_datagrams_that_come_are_told_until_there_are_none():
    for dialect in ("quectel", "simcom"):
        peer, it, uart, s = udp(dialect)
        buf = bytearray(8)
        for told in (True, False):  # the URC, or, when the line lost it, a look after a while
            answers = peer.data(b"OK\r\n", b"a longer one")
            if told:
                uart.rx += b"\r\n" + peer.come + b"\r\n"
            else:
                uart.now += 3000
            it.pump()
            came = []
            for _ in range(len(answers)):
                uart.book[peer.read] = answers.pop(0)
                assert s.recv_into(buf) == 0  # it asks
                settle(it, uart)
                n = s.recv_into(buf)
                if n:
                    came.append(bytes(buf[:n]))
            assert came == [b"OK\r\n", b"a longer"], (dialect, told, came)
            asked = len(uart.wrote)
            assert s.recv_into(buf) == 0
            settle(it, uart)
            assert len(uart.wrote) == asked  # nothing was told, and it has just looked


def test_a_socket_that_does_not_open():
    for dialect in ("quectel", "simcom"):
        peer = Peer(dialect)
        for answer, wanted in ((peer.refused, 111), (b"ERROR", 111), (b"OK", 110)):
            it, uart, net, log = brought_up(dict(list(peer.book.items()) + [(peer.open, answer)]))
            try:
                it.udp("hub.example", 5004)
                raise AssertionError("open")
            except OSError as e:
                assert e.args[0] == wanted, (dialect, answer, e)
            assert it.sockets == [None] * driver.SOCKETS
        it.pdp = False
        try:
            it.udp("hub.example", 5004)
            raise AssertionError("open")
        except OSError as e:
            assert e.args[0] == 107


def test_a_socket_that_is_gone_is_opened_again():
    for dialect in ("quectel", "simcom"):
        for how in ("told", "refused", "context", "closed", "anew"):
            peer, it, uart, s = udp(dialect)
            uart.now += 5000
            if how == "told":
                uart.rx += b"\r\n" + peer.gone + b"\r\n"
            elif how == "refused":  # a send finds it out
                uart.book[peer.send % 4] = b"ERROR"
                s.send(b"ping")
            elif how == "closed":
                it.close_sockets()
            else:
                it.pdp = False
                it.drop_sockets()
            settle(it, uart)
            uart.book[peer.send % 4] = b"> "
            if how in ("context", "anew"):
                before = len(uart.wrote)
                assert not s.ready()
                s.send(b"lost")
                settle(it, uart)
                assert len(uart.wrote) == before  # not before the modem has a context
                it.pdp = True
            assert not s.ready()
            settle(it, uart)
            assert s.ready() and it.sockets[0] is s, (dialect, how)
            s.send(b"ping")
            settle(it, uart)
            assert uart.wrote[-1] == b"ping"
        # In vain: not oftener than every 3 s.
        peer, it, uart, s = udp(dialect)
        uart.book[peer.open] = peer.refused
        uart.rx += b"\r\n" + peer.gone + b"\r\n"
        uart.now += 5000
        it.pump()
        before = uart.wrote.count(peer.open + b"\r")
        for _ in range(100):
            assert not s.ready()
            settle(it, uart, 100)
        assert 3 <= uart.wrote.count(peer.open + b"\r") - before <= 4
        # A modem that says nothing is asked nothing more: the channel keeps room for the session's commands.
        uart.book[peer.open] = uart.book[peer.close] = None
        for _ in range(300):
            s.ready()
            settle(it, uart, 100)
            assert len(it.at._queue) <= 2


def test_a_modem_that_takes_nothing_more_is_given_nothing_more():
    peer, it, uart, s = udp("quectel")
    uart.book[peer.send % 4] = None
    for _ in range(50):
        s.send(b"ping")
        s.recv_into(bytearray(8))
        uart.now += 20
        it.pump()
    assert not s.ready() and it.at.timeouts == 0
    uart.book[peer.send % 4] = b"> "
    for _ in range(600):
        uart.now += 20
        it.pump()
    assert it.at.timeouts == 1 and s.ready()
    assert it.run(b"AT").result == at.OK
