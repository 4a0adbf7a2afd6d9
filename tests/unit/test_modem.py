"""Modem driver: start, errors, TCP streams and URCs. tests/simulation tests it with an emulated network."""

from agent.modem import at, driver
from agent.modem.dialects import quectel, simcom
from compat.stream import Stream
from modem_harness import QUECTEL, SIMCOM, make_connected_modem, make_modem, merged


def error_of(function):
    """Return the text of the ModemError that function() raises."""
    try:
        function()
    except driver.ModemError as e:
        return str(e)
    raise AssertionError("no ModemError")


def test_modem_starts_and_connects_a_stream_in_both_dialects():
    for extra, iccid, dialect in (
        (None, b"89860025128306012474", quectel),
        (SIMCOM, b"89860318760238610932", simcom),
    ):
        modem, uart, net, log = make_connected_modem(extra)
        assert modem.dialect.SETUP == dialect.SETUP and modem.imei == b"867584030000017" and modem.iccid == iccid
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


def test_clock_answers_are_parsed():
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
