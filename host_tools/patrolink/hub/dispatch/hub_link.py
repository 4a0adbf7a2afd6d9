"""Connection of a dispatcher's session to the hub's floor and media sockets, as a device has one."""

from collections.abc import Callable

from patrolink_protocol import srtp
from patrolink_protocol.group_report import RECEIVER_REPORT

from patrolink.core.clock import Clock
from patrolink.core.keys import DeviceKey
from patrolink.hub.config import HubConfig
from patrolink.hub.infra import crypto
from patrolink.hub.infra.datagram_reader import Address, DatagramReader
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.udp import UdpSocket

OnFloor = Callable[[bytearray, int, int], None]

_MIN_PACKET = 12
_FLOOR_MESSAGE = 204  # RTCP packet type
_MAX_DATAGRAM = 2048
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what hubs listen on


def local_host(config: HubConfig) -> str:
    """Return the address of the hub's sockets for the dispatchers' sessions, which are on the same machine."""
    return _LOOPBACK.get(config.listen, config.listen)


class HubLink:
    """Socket and SRTCP contexts of one session. Floor messages and voice are sent from one address.

    Args:
        sock: The socket. The link closes it.
        config: The hub's addresses.
        on_floor: Called with a buffer, the length of the plain floor control datagram in it, and its SRTCP index.
    """

    def __init__(self, sock: UdpSocket, config: HubConfig, on_floor: OnFloor, clock: Clock, metrics: Metrics) -> None:
        host = local_host(config)
        self._floor_address, self._media_address = (host, config.floor_port), (host, config.media_port)
        self._sock, self._on_floor, self._metrics = sock, on_floor, metrics
        self._reader = DatagramReader(sock, _admit, self._on_datagram, clock, metrics)
        self._reader.start()
        self._buf = bytearray(_MAX_DATAGRAM)
        self._secret = b""
        self._index = 0  # of the next SRTCP packet

    def use_key(self, secret: bytes) -> None:
        """Use the session's key from now on."""
        if secret != self._secret:
            self._secret, self._index, key = secret, 0, DeviceKey(secret)
            self._uplink = crypto.srtcp_context(key, b"patrolink-ptt-up")
            self._downlink = crypto.srtcp_context(key, b"patrolink-ptt-down")

    def close(self) -> None:
        """Stop receiving, and close the socket."""
        self._reader.close()
        self._sock.close()

    def send_floor(self, data: bytes) -> None:
        """Send plain RTCP packets under SRTCP."""
        self._buf[: len(data)] = data
        n = self._uplink.protect(self._buf, len(data), self._index)
        self._index += 1
        self._send(memoryview(self._buf)[:n], self._floor_address)

    def send_keepalive(self, ssrc: int) -> None:
        """Send an empty receiver report, which keeps the session present."""
        self.send_floor(bytes((0x80, RECEIVER_REPORT, 0, 1)) + ssrc.to_bytes(4, "big"))

    def send_voice(self, packet: memoryview) -> None:
        """Send an SRTP packet."""
        self._send(packet, self._media_address)

    def _send(self, packet: memoryview, address: tuple[str, int]) -> None:
        try:
            self._sock.sendto(packet, address)
        except OSError as e:
            self._metrics.count_send_error(e)

    def _on_datagram(self, buf: bytearray, n: int, _source: Address, _arrival_ns: int) -> None:
        try:
            if n < _MIN_PACKET or not self._secret:
                raise srtp.SrtpError("length")
            n = self._downlink.open(buf, n)
        except srtp.SrtpError as e:
            self._metrics.refused[f"dispatcher floor: {e}"] += 1
            return
        if buf[1] == _FLOOR_MESSAGE:
            self._on_floor(buf, n, int.from_bytes(buf[n : n + 4], "big") & srtp.INDEX_MAX)


def _admit(_source: Address) -> bool:
    return True
