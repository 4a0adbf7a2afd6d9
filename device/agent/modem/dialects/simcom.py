"""SIMCom's dialect: SIM7600 and A76xx class ("TCPIP Application Note", SIM7500_SIM7600 series)."""

from agent.modem.at import OK, numbers
from agent.modem.driver import ModemFault

# Time from the network; the service down, which closes sockets that an earlier boot left.
setup = ((b"AT+CTZU=1", 1000), (b"AT+NETCLOSE", 10000))
ICCID = (b"AT+CICCID", b"+ICCID:")
SIGNAL = (b"AT+CPSI?", b"+CPSI:")
PDP_DOWN = b"AT+NETCLOSE"
SENT = None
RECEIVE = b"AT+CIPRXGET=2,%d,%d"
RECEIVED = b"+CIPRXGET: 2,"
CLOSE = b"AT+CIPCLOSE=%d"
_ACTIVATE_MS = 120000
_SETTLE_MS = 5000
_LOCAL_PORT = 5000


def rsrp(n):
    """+CPSI: LTE,Online,<MCC-MNC>,<TAC>,<SCellID>,<PCellID>,<band>,<earfcn>,<dlbw>,<ulbw>,<RSRQ>,<RSRP>,<RSSI>,<RSSNR>

    RSRQ, RSRP and RSSI are in tenths.
    """
    return n[11] // 10 if n[0] == b"LTE" and len(n) > 11 and isinstance(n[11], int) else None


def pdp_up(modem):
    """Name the access point, ask for manual reading, start the socket service."""
    c = modem.config
    modem.must(b'AT+CGDCONT=1,"IP","%s"' % c["apn"].encode())
    if c.get("user"):
        modem.must(b'AT+CGAUTH=1,2,"%s","%s"' % ((c.get("password") or "").encode(), c["user"].encode()))  # 2: CHAP
    modem.must(b"AT+CIPRXGET=1")
    modem.net_result = None
    # NETCLOSE of an earlier context may still be under way: its result comes unasked.
    if modem.run(b"AT+NETOPEN", _SETTLE_MS).result != OK or not modem.await_(
        lambda: modem.net_result is not None, _ACTIVATE_MS
    ):
        modem.run(PDP_DOWN, _SETTLE_MS)
        raise ModemFault("AT+NETOPEN: the socket service does not start; check the APN and the contract")
    if modem.net_result:
        raise ModemFault("AT+NETOPEN: error %d; check the APN and the contract" % modem.net_result)


def open_text(number, kind, host, port):
    """A UDP socket is opened with a port of its own, and told the peer at each send."""
    if kind == b"UDP":
        return b'AT+CIPOPEN=%d,"UDP",,,%d' % (number, _LOCAL_PORT + number)
    return b'AT+CIPOPEN=%d,"%s","%s",%d' % (number, kind, host, port)


def send_text(s, n):
    """Send n bytes on socket s."""
    if s.kind == b"UDP":
        return b'AT+CIPSEND=%d,%d,"%s",%d' % (s.id, n, s.address[0].encode(), s.address[1])
    return b"AT+CIPSEND=%d,%d" % (s.id, n)


def received(line):
    """Return how many bytes follow a +CIPRXGET: 2,<id>,<n>,<left> line."""
    n = numbers(line)
    return n[2] if len(n) > 2 and isinstance(n[2], int) else 0


def on_urc(modem, line):
    """Data, closed sockets, a lost context, the results of openings."""
    n = numbers(line) if line[:1] == b"+" else ()
    if line.startswith(b"+CIPRXGET: 1,"):
        s = modem.socket(n[1])
        if s is not None:
            s.pending = True
    elif line.startswith(b"+CIPOPEN:"):
        s = modem.socket(n[0])
        if s is not None and len(n) > 1:
            s.result = n[1]
    elif line.startswith(b"+IPCLOSE:"):  # +CIPCLOSE: is of a socket that was let go
        s = modem.socket(n[0])
        if s is not None:
            s.closed = True
    elif line.startswith(b"+NETOPEN:"):
        modem.net_result = n[0] if isinstance(n[0], int) else 1
    elif line.startswith(b"+CIPEVENT: NETWORK CLOSED"):
        modem.pdp = False
        modem.drop_sockets()
