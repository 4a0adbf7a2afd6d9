"""Quectel's dialect: EC200 and EG25 class ("TCP/IP Application Note", EC2x&EG9x series)."""

from agent.modem.at import OK, numbers
from agent.modem.driver import ModemFault

# Time from the network; context 1 down, which closes sockets that an earlier boot left.
setup = ((b"AT+CTZU=1", 1000), (b"AT+QIDEACT=1", 40000))
ICCID = (b"AT+QCCID", b"+QCCID:")
SIGNAL = (b"AT+QCSQ", b"+QCSQ:")
PDP_DOWN = b"AT+QIDEACT=1"
SENT = b"SEND OK"
RECEIVE = b"AT+QIRD=%d,%d"
RECEIVED = b"+QIRD:"
CLOSE = b"AT+QICLOSE=%d,1"
_ACTIVATE_MS = 150000


def rsrp(n):
    """+QCSQ: "LTE",<rssi>,<rsrp>,<sinr>,<rsrq>"""
    return n[2] if n[0] == b"LTE" and len(n) > 2 and isinstance(n[2], int) else None


def pdp_up(modem):
    """Name the access point and activate context 1."""
    c = modem.config
    text = b'AT+QICSGP=1,1,"%s"' % c["apn"].encode()
    if c.get("user"):
        text += b',"%s","%s",2' % (c["user"].encode(), (c.get("password") or "").encode())  # 2: CHAP
    modem.must(text)
    if modem.run(b"AT+QIACT=1", _ACTIVATE_MS).result != OK:
        modem.run(PDP_DOWN, 40000)
        raise ModemFault("AT+QIACT: the network gives no data context; check the APN and the contract")


def open_text(number, kind, host, port):
    """Access mode 0: data waits in the modem until it is read."""
    return b'AT+QIOPEN=1,%d,"%s","%s",%d,0,0' % (number, kind, host, port)


def send_text(s, n):
    """Send n bytes on socket s."""
    return b"AT+QISEND=%d,%d" % (s.id, n)


def received(line):
    """Return how many bytes follow a +QIRD line."""
    n = numbers(line)[0]
    return n if isinstance(n, int) else 0


def on_urc(modem, line):
    """Data, closed sockets, a lost context, the result of an opening."""
    if line.startswith(b"+QIURC:"):
        n = numbers(line)
        s = modem.socket(n[1]) if len(n) > 1 else None
        if n[0] == b"recv" and s is not None:
            s.pending = True
        elif n[0] == b"closed" and s is not None:
            s.closed = True
        elif n[0] == b"pdpdeact":
            modem.pdp = False
            modem.drop_sockets()
    elif line.startswith(b"+QIOPEN:"):
        n = numbers(line)
        s = modem.socket(n[0])
        if s is not None and len(n) > 1:
            s.result = n[1]
