"""Datagrams through the modem driver: sending, receiving, lost sockets and missing answers."""

from agent.modem import at, driver
from agent.modem.dialects import quectel
from modem_harness import SIMCOM, make_connected_modem, merged


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
    uart.deliver(
        b'+QIURC: "pdpdeact",1' if modem.dialect.SETUP == quectel.SETUP else b"+CIPEVENT: NETWORK CLOSED UNEXPECTEDLY"
    )
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
