"""Quectel commands: EC200 and EG25 class ("TCP/IP Application Note", EC2x&EG9x series).

A dialect holds the commands and parsers that TS 27.007 leaves to the manufacturer; every dialect has the same names.
"""

from agent.modem.at import URC_CLOSED, URC_DATA, URC_OPENED, URC_PDP_LOST, fields

# Time from the network; deactivate context 1, which closes sockets left from before a restart of the agent.
SETUP = ((b"AT+CTZU=1", 1000), (b"AT+QIDEACT=1", 40000))
ICCID = (b"AT+QCCID", b"+QCCID:")
SIGNAL = (b"AT+QCSQ", b"+QCSQ:")
# Command, its timeout, timeout of the URC with the result (0: there is none), timeout of PDP_DOWN after a failure.
PDP_UP = (b"AT+QIACT=1", 150000, 0, 40000)
PDP_DOWN = b"AT+QIDEACT=1"
SEND_FINAL = b"SEND OK"
RECEIVE = b"AT+QIRD=%d,%d"
RECEIVE_PREFIX = b"+QIRD:"
CLOSE = b"AT+QICLOSE=%d,1"


def parse_rsrp(values):
    """Return the RSRP in dBm of +QCSQ: "LTE",<rssi>,<rsrp>,<sinr>,<rsrq>; None if it has none."""
    return values[2] if values[0] == b"LTE" and len(values) > 2 and isinstance(values[2], int) else None


def pdp_setup(config):
    """Return the commands that configure context 1, CHAP if there is a user name."""
    text = b'AT+QICSGP=1,1,"%s"' % config["apn"].encode()
    if config.get("user"):
        text += b',"%s","%s",2' % (config["user"].encode(), (config.get("password") or "").encode())
    return (text,)


def open_command(number, kind, host, port):
    """Return the command that opens a socket. Access mode 0: the modem buffers data until it is read."""
    return b'AT+QIOPEN=1,%d,"%s","%s",%d,0,0' % (number, kind, host, port)


def send_command(s, n):
    """Return the command that sends n bytes on socket s."""
    return b"AT+QISEND=%d,%d" % (s.id, n)


def payload_length(line):
    """Return how many bytes follow a +QIRD line."""
    n = fields(line)[0]
    return n if isinstance(n, int) else 0


def parse_urc(line):
    """Return (URC kind, socket number, value) of a URC, or None if it is of no interest."""
    if line.startswith(b"+QIURC:"):
        values = fields(line)
        number = values[1] if len(values) > 1 else None
        if values[0] == b"recv":
            return URC_DATA, number, None
        if values[0] == b"closed":
            return URC_CLOSED, number, None
        if values[0] == b"pdpdeact":
            return URC_PDP_LOST, None, None
    elif line.startswith(b"+QIOPEN:"):
        values = fields(line)
        if len(values) > 1:
            return URC_OPENED, values[0], values[1]
    return None
