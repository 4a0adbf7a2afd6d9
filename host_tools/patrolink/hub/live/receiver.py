"""UDP receiver of live views: one socket, streams by SSRC, periodic SRTCP feedback (CLIP.md).

A datagram that belongs to no stream, or is not authentic, is counted by reason and has no other effect.
"""

import asyncio
from collections import Counter

from patrolink_protocol import srtp

from patrolink.core.clock import Clock
from patrolink.hub.infra.udp import UdpSocket
from patrolink.hub.live.stream import REORDER_MS, Address, LiveStream

_REPORT_INTERVAL_MS = 1000
_MAX_DATAGRAMS = 64  # per wake-up: other sockets of the loop get their turn
_RTCP_BYE = 203


class LiveReceiver:
    """Receives the streams of a hub's live views.

    Args:
        sock: The socket. The receiver closes it.
        rejected: Counter of datagrams that were not accepted, by reason.
        clock: Source of time.

    Attributes:
        port: UDP port of the socket.
    """

    def __init__(self, sock: UdpSocket, rejected: Counter[str], clock: Clock) -> None:
        self._rejected, self._clock = rejected, clock
        self._streams: dict[int, LiveStream] = {}
        self._socket = sock
        self.port: int = self._socket.getsockname()[1]
        self._buf = bytearray(2048)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._report_ms = 0

    def start(self) -> None:
        """Start receiving on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)
        self._tick()

    def close(self) -> None:
        """End all streams and close the socket."""
        for stream in list(self._streams.values()):
            self.remove(stream, "the hub was stopped")
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def add(self, stream: LiveStream) -> None:
        """Accept packets of a stream from now on."""
        self._streams[stream.ssrc] = stream

    def remove(self, stream: LiveStream, reason: str) -> None:
        """End a stream. Its device receives no more reports and stops as well."""
        if self._streams.pop(stream.ssrc, None) is not None:
            stream.end(reason)

    def _read(self) -> None:
        for _ in range(_MAX_DATAGRAMS):
            try:
                n, source = self._socket.recvfrom_into(self._buf)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error caused by a report
                continue
            self._receive(n, source)

    def receive(self, datagram: bytes, source: Address) -> None:
        """Process a datagram."""
        self._buf[: len(datagram)] = datagram
        self._receive(len(datagram), source)

    def _receive(self, n: int, source: Address) -> None:
        buf = self._buf
        is_rtcp = n >= 12 and 192 <= buf[1] <= 223  # RFC 5761, 4
        start = 4 if is_rtcp else 8
        stream = (
            self._streams.get(int.from_bytes(buf[start : start + 4], "big")) if n >= srtp.RTP_HEADER_BYTES else None
        )
        if stream is None:
            self._rejected["live ssrc"] += 1
            return
        now_ms = self._clock.monotonic_ms()
        try:
            (stream.receive_rtcp if is_rtcp else stream.receive_rtp)(buf, n, source, now_ms)
        except srtp.SrtpError as e:
            self._rejected[f"live {e}"] += 1
            return
        if is_rtcp and buf[1] == _RTCP_BYE:
            stream.deliver(now_ms + REORDER_MS)
            self.remove(stream, "ended by the device")

    def _tick(self) -> None:
        now_ms = self._clock.monotonic_ms()
        report_due = now_ms - self._report_ms >= _REPORT_INTERVAL_MS
        if report_due:
            self._report_ms = now_ms
        for stream in list(self._streams.values()):
            stream.deliver(now_ms)
            reason = stream.expiry_reason(now_ms)
            if reason:
                self.remove(stream, reason)
            elif stream.source is not None:
                self._send_feedback(stream, stream.source, report_due, now_ms)
        if self._loop is not None:
            self._timer = self._loop.call_later(REORDER_MS / 1000, self._tick)

    def _send_feedback(self, stream: LiveStream, source: Address, report_due: bool, now_ms: int) -> None:
        if report_due:
            self._send(stream.receiver_report(), source)
        request = stream.picture_loss_indication(now_ms)
        if request is not None:
            self._send(request, source)

    def _send(self, packet: bytes, destination: Address) -> None:
        try:
            self._socket.sendto(packet, destination)
        except OSError:
            self._rejected["live not sent"] += 1
