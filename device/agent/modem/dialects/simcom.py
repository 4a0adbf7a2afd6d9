"""SIMCom commands: SIM7600 and A76xx class ("TCPIP Application Note", SIM7500_SIM7600 series); see `quectel`."""

from agent.modem.at import URC_CLOSED, URC_DATA, URC_OPENED, URC_PDP_LOST, URC_PDP_RESULT, fields
from patrolink_protocol.native import const

# Time from the network; stop the socket service, which closes sockets left from before a restart of the agent.
SETUP = ((b"AT+CTZU=1", 1000), (b"AT+NETCLOSE", 10000))
ICCID = (b"AT+CICCID", b"+ICCID:")
SIGNAL = (b"AT+CPSI?", b"+CPSI:")
PDP_UP = (b"AT+NETOPEN", 5000, 120000, 5000)
PDP_DOWN = b"AT+NETCLOSE"
SEND_FINAL = None
RECEIVE = b"AT+CIPRXGET=2,%d,%d"
RECEIVE_PREFIX = b"+CIPRXGET: 2,"
CLOSE = b"AT+CIPCLOSE=%d"
_LOCAL_PORT = const(5000)


def parse_rsrp(values):
    """Return the RSRP in dBm of a +CPSI line; None if it has none.

    +CPSI: LTE,Online,<MCC-MNC>,<TAC>,<SCellID>,<PCellID>,<band>,<earfcn>,<dlbw>,<ulbw>,<RSRQ>,<RSRP>,<RSSI>,<RSSNR>;
    RSRQ, RSRP and RSSI are in tenths.
    """
    return values[11] // 10 if values[0] == b"LTE" and len(values) > 11 and isinstance(values[11], int) else None


def pdp_setup(config):
    """Return the commands that configure context 1, CHAP if there is a user name, and buffered reception."""
    commands = [b'AT+CGDCONT=1,"IP","%s"' % config["apn"].encode()]
    if config.get("user"):
        password = (config.get("password") or "").encode()
        commands.append(b'AT+CGAUTH=1,2,"%s","%s"' % (password, config["user"].encode()))
    commands.append(b"AT+CIPRXGET=1")
    return commands


def open_command(number, kind, host, port):
    """Return the command that opens a socket. A UDP socket has a local port; the peer is named at each send."""
    if kind == b"UDP":
        return b'AT+CIPOPEN=%d,"UDP",,,%d' % (number, _LOCAL_PORT + number)
    return b'AT+CIPOPEN=%d,"%s","%s",%d' % (number, kind, host, port)


def send_command(s, n):
    """Return the command that sends n bytes on socket s."""
    if s.kind == b"UDP":
        return b'AT+CIPSEND=%d,%d,"%s",%d' % (s.id, n, s.address[0].encode(), s.address[1])
    return b"AT+CIPSEND=%d,%d" % (s.id, n)


def payload_length(line):
    """Return how many bytes follow a +CIPRXGET: 2,<id>,<n>,<left> line."""
    values = fields(line)
    return values[2] if len(values) > 2 and isinstance(values[2], int) else 0


def parse_urc(line):
    """Return (URC kind, socket number, value) of a URC, or None if it is of no interest."""
    values = fields(line) if line[:1] == b"+" else ()
    if line.startswith(b"+CIPRXGET: 1,"):
        return URC_DATA, values[1], None
    if line.startswith(b"+CIPOPEN:"):
        if len(values) > 1:
            return URC_OPENED, values[0], values[1]
    elif line.startswith(b"+IPCLOSE:"):  # +CIPCLOSE: is the answer to a CLOSE command
        return URC_CLOSED, values[0], None
    elif line.startswith(b"+NETOPEN:"):
        return URC_PDP_RESULT, None, values[0] if isinstance(values[0], int) else 1
    elif line.startswith(b"+CIPEVENT: NETWORK CLOSED"):
        return URC_PDP_LOST, None, None
    return None
