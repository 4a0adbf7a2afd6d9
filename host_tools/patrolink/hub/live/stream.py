"""One live view as the hub receives it: SRTP, order of packets, pictures, and SRTCP feedback (CLIP.md)."""

from dataclasses import dataclass
from typing import Any, Protocol

from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter
from patrolink_protocol.key_derivation import live_view_context

from patrolink.core.keys import DeviceKey
from patrolink.hub.live.depacketizer import H264_PAYLOAD_TYPE, Depacketizer, create_depacketizer, is_key_frame
from patrolink.hub.live.reception_stats import ReceptionStats

MAX_PACKET_BYTES = 1200
REORDER_MS = 80  # how long a packet waits for one that it has overtaken
NO_PACKETS = "no packet received"  # reason of the end when the device never sent
_MAX_REORDERED = 128  # packets
_SILENCE_MS = 10_000
_GRACE_MS = 3000  # the device ends a view first
_KEY_FRAME_REQUEST_MS = 300  # interval of requests until a key frame is received

Address = tuple[Any, ...]


@dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Attributes:
        device: Name of the device.
        payload_type: RTP payload type: 26 for a JPEG file, 96 for an H.264 access unit in Annex B format.
        timestamp: RTP timestamp at 90 kHz.
        data: The picture.
    """

    device: str
    payload_type: int
    timestamp: int
    data: bytes


class StreamListener(Protocol):
    """Receives the events of a stream."""

    def on_start(self) -> None:
        """Handle the start: the first packet follows."""

    def on_packet(self, packet: bytes) -> None:
        """Handle a decrypted RTP packet. Packets come in order."""

    def on_picture(self, picture: Picture) -> None:
        """Handle a complete picture."""

    def on_end(self, reason: str) -> None:
        """Handle the end of the stream; called once."""


class LiveStream:
    """Receiver side of one live view. Only packets that are authentic and new change its state.

    Args:
        device: Name of the device.
        key: Key of the device.
        ssrc: SSRC of the stream: the id of the command that started the view.
        expires_ms: Expiry of that command in Unix time. SSRC and expiry are inputs of the key derivation.
        duration_ms: How long the view lasts from its first packet.
        now_ms: Current time on the clock of all other `now_ms`.
        start_timeout_ms: Time until the command expires; the device may start until then.
        listener: Receives the events of the stream.
    """

    def __init__(
        self,
        device: str,
        key: DeviceKey,
        ssrc: int,
        expires_ms: int,
        duration_ms: int,
        now_ms: int,
        start_timeout_ms: int,
        listener: StreamListener,
    ) -> None:
        self.device, self.ssrc = device, ssrc
        self.pictures = 0
        self.source: Address | None = None  # where the last authentic packet came from
        self.started_ms: int | None = None  # when the first RTP packet was delivered
        self._duration_ms = duration_ms
        self._end_ms = now_ms + start_timeout_ms + duration_ms + _GRACE_MS
        self._received_ms = now_ms + start_timeout_ms
        self._listener = listener
        uplink = _master_key(key, b"patrolink-live-up", ssrc, expires_ms)
        downlink = _master_key(key, b"patrolink-live-down", ssrc, expires_ms)
        self._rtp = srtp.SrtpTransform(encrypter, *uplink, room=MAX_PACKET_BYTES)
        self._rtcp_in = srtp.SrtcpTransform(encrypter, *uplink, room=MAX_PACKET_BYTES)
        self._rtcp_out = srtp.SrtcpTransform(encrypter, *downlink, room=64)
        self._rtcp_index = 0
        self._replay = srtp.SrtpStream()
        self._stats = ReceptionStats()
        self._key_frame_request_ms: int | None = None  # time of the last request; None: no key frame is needed
        self._reordered: dict[int, tuple[int, bytes]] = {}  # packet index → time of arrival, decrypted packet
        self._next_index = -1
        self._depacketizer: Depacketizer | None = None
        self._payload_type = -1

    def request_key_frame(self) -> None:
        """Send picture loss indications until a key frame is received."""
        if self._key_frame_request_ms is None:
            self._key_frame_request_ms = 0

    def receive_rtp(self, buf: bytearray, n: int, source: Address, now_ms: int) -> None:
        """Accept the SRTP packet `buf[:n]`, which is decrypted in place.

        Raises:
            SrtpError: The packet is not authentic, or a replay.
        """
        index = self._rtp.verify(buf, n, self._replay)
        n = self._rtp.decrypt(buf, n, index)
        self._stats.count(index, int.from_bytes(buf[4:8], "big"), now_ms)
        if index >= self._next_index:
            self._reordered[index] = (now_ms, bytes(buf[:n]))
        self._received_ms, self.source = now_ms, source
        self.deliver(now_ms)

    def receive_rtcp(self, buf: bytearray, n: int, source: Address, now_ms: int) -> None:
        """Accept the SRTCP packet `buf[:n]`, which is decrypted in place.

        Raises:
            SrtpError: The packet is not authentic.
        """
        self._rtcp_in.open(buf, n)
        self._received_ms, self.source = now_ms, source

    def deliver(self, now_ms: int) -> None:
        """Deliver packets that are in order, or whose predecessors are late by more than `REORDER_MS`."""
        while self._reordered:
            index = min(self._reordered)
            arrival_ms, packet = self._reordered[index]
            in_order = index == self._next_index or (self._next_index < 0 and index == 0)
            if not in_order and now_ms - arrival_ms < REORDER_MS and len(self._reordered) <= _MAX_REORDERED:
                return
            del self._reordered[index]
            if not in_order and self._payload_type == H264_PAYLOAD_TYPE:
                self.request_key_frame()
            self._next_index = index + 1
            if self.started_ms is None:
                self.started_ms = now_ms
                self._end_ms = now_ms + self._duration_ms + _GRACE_MS
                self._listener.on_start()
            self._depacketize(index, packet)

    def _depacketize(self, index: int, packet: bytes) -> None:
        self._listener.on_packet(packet)
        payload_type, timestamp = packet[1] & 0x7F, int.from_bytes(packet[4:8], "big")
        if payload_type != self._payload_type:
            self._payload_type, self._depacketizer = payload_type, create_depacketizer(payload_type)
        if self._depacketizer is None:
            return
        payload = packet[srtp.payload_offset(packet, len(packet)) :]
        data = self._depacketizer.push(payload, timestamp, bool(packet[1] & 0x80), index)
        if data is not None:
            self.pictures += 1
            if payload_type != H264_PAYLOAD_TYPE or is_key_frame(data):
                self._key_frame_request_ms = None
            self._listener.on_picture(Picture(self.device, payload_type, timestamp, data))

    def receiver_report(self) -> bytes:
        """Return the SRTCP receiver report (RFC 3550, 6.4.2)."""
        buf = bytearray(b"\x81\xc9\0\x07") + self._receiver_ssrc()
        return self._protect(buf + self._stats.report_block(self.ssrc, self._replay.highest))

    def picture_loss_indication(self, now_ms: int) -> bytes | None:
        """Return an SRTCP picture loss indication (RFC 4585, 6.3.1), or None if none is due."""
        if self._key_frame_request_ms is None or now_ms - self._key_frame_request_ms < _KEY_FRAME_REQUEST_MS:
            return None
        self._key_frame_request_ms = now_ms
        return self._protect(bytearray(b"\x81\xce\0\2" + self._receiver_ssrc() + self.ssrc.to_bytes(4, "big")))

    def _receiver_ssrc(self) -> bytes:
        return (self.ssrc ^ 0xFFFFFFFF).to_bytes(4, "big")

    def _protect(self, packet: bytearray) -> bytes:
        buf = packet + bytes(srtp.SRTCP_OVERHEAD_BYTES)
        n = self._rtcp_out.protect(buf, len(packet), self._rtcp_index)
        self._rtcp_index += 1
        return bytes(buf[:n])

    def expiry_reason(self, now_ms: int) -> str:
        """Return why the stream has expired, or an empty string while it has not."""
        if now_ms >= self._end_ms:
            return "time limit reached"
        if now_ms - self._received_ms >= _SILENCE_MS:
            return f"{NO_PACKETS} for {_SILENCE_MS // 1000} s" if self.source else NO_PACKETS
        return ""

    def end(self, reason: str) -> None:
        """Report the end of the stream."""
        self._listener.on_end(reason)


def _master_key(key: DeviceKey, label: bytes, ssrc: int, expires_ms: int) -> tuple[bytes, bytes]:
    """Return SRTP master key and salt of one direction."""
    context = live_view_context(ssrc, expires_ms)
    master: tuple[bytes, bytes] = srtp.derive_master(key.secret, label, key.epoch, context)
    return master
