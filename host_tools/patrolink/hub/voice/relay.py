"""Forwards voice packets of the member that holds the floor to all other members, as they were received.

A packet is authenticated but neither decrypted nor changed. Refused packets are counted by reason.
"""

import contextlib
from typing import Protocol

from patrolink_protocol import srtp

from patrolink.core.clock import Clock
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.bursts import BurstTable, RelayedBurst
from patrolink.hub.voice.control_receiver import ControlReceiver
from patrolink.hub.voice.floor_sender import DatagramSender
from patrolink.hub.voice.floor_server import FloorServer
from patrolink.hub.voice.groups import Address, Group
from patrolink.hub.voice.presence import DevicePresence

_MAX_TRIED_GROUPS = 8  # of a device, for voice with an unknown SSRC
_UNKNOWN_SSRC = 0  # never granted


class VoiceSink(Protocol):
    """Consumer of forwarded voice packets: the recorder."""

    def voice_packet(
        self, burst: RelayedBurst, index: int, key: GroupKey, packet: bytes | memoryview, arrival_ns: int
    ) -> None:
        """Process an SRTP packet.

        Args:
            burst: The burst that the packet belongs to.
            index: SRTP packet index.
            key: Group key that protects the packet.
            packet: The packet as received. Valid during the call only.
            arrival_ns: Arrival in nanoseconds of Unix time.
        """


class VoiceRelay:
    """Relay of one hub.

    Args:
        sock: The media socket.
        control: Gets SRTCP packets of the media socket.
        sink: Gets every packet that was forwarded.
    """

    def __init__(
        self,
        sock: DatagramSender,
        bursts: BurstTable,
        server: FloorServer,
        presence: DevicePresence,
        control: ControlReceiver,
        sink: VoiceSink,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._sock, self._bursts, self._server, self._presence = sock, bursts, server, presence
        self._control, self._sink, self._clock, self._metrics = control, sink, clock, metrics
        self._index = 0  # of the packet that was verified last

    def on_media_datagram(self, buf: bytearray, n: int, source: Address, arrival_ns: int) -> None:
        """Process a datagram of the media socket."""
        if n < srtp.RTP_HEADER_BYTES:
            self._refuse("length")
        elif 192 <= buf[1] <= 223:  # RTCP packet types (RFC 5761 4)
            self._control.on_media_rtcp(buf, n, source)
        else:
            self._voice_packet(buf, n, source, arrival_ns)

    def _voice_packet(self, buf: bytearray, n: int, source: Address, arrival_ns: int) -> None:
        burst = self._bursts.find(int.from_bytes(buf[8:12], "big"))
        if burst is None:
            self._unknown_ssrc(buf, n, source)
            return
        group = burst.group
        key = self._verify(group, buf, n, burst.stream)
        if key is None:
            return
        if not self._server.permits_voice(group, burst.member, burst.ssrc):
            self._refuse("no floor")
            return
        packet = memoryview(buf)[:n]
        device = burst.device
        # Dispatchers share an address, and hear each other.
        self._forward(group, packet, None if device.is_dispatcher else device.media_address)
        self._metrics.relay.add((self._clock.unix_ns() - arrival_ns) // 1000)
        self._deliver(burst, self._index, key, packet, arrival_ns)

    def _deliver(
        self, burst: RelayedBurst, index: int, key: GroupKey, packet: bytes | memoryview, arrival_ns: int
    ) -> None:
        if not burst.packets:
            burst.first_index = index
        burst.packets += 1
        self._metrics.counts["voice_in"] += 1
        self._sink.voice_packet(burst, index, key, packet, arrival_ns)

    def _verify(self, group: Group, buf: bytearray, n: int, stream: srtp.SrtpStream) -> GroupKey | None:
        """Return the key that authenticates a packet: the current one, or the previous one while it is valid."""
        try:
            self._index = group.srtp.verify(buf, n, stream)
            return group.key
        except srtp.SrtpError as e:
            retired = group.retired_key
            if str(e) == "tag" and retired is not None:
                if self._clock.monotonic_ms() < retired.until_ms:
                    with contextlib.suppress(srtp.SrtpError):
                        self._index = retired.srtp.verify(buf, n, stream)
                        return retired.key
                else:
                    group.retired_key = None
            self._refuse(str(e))
            return None

    def _forward(self, group: Group, packet: memoryview | bytes, source: Address | None) -> None:
        send = self._sock.sendto
        sent = 0
        for target in group.media_targets:
            if target is not source:
                try:
                    send(packet, target)
                    sent += 1
                except OSError as e:
                    self._metrics.count_send_error(e)
        self._metrics.counts["voice_out"] += sent

    def _unknown_ssrc(self, buf: bytearray, n: int, source: Address) -> None:
        """Revoke a device that sends authenticated voice under an SSRC that was never granted."""
        device = self._presence.device_at(source)
        if device is None:
            self._refuse("ssrc")
            return
        for membership in list(device.memberships.values())[:_MAX_TRIED_GROUPS]:
            try:
                membership.group.srtp.verify(buf, n, srtp.SrtpStream())
            except srtp.SrtpError:
                continue
            self._refuse("no floor")
            self._server.permits_voice(membership.group, membership.member, _UNKNOWN_SSRC)
            return
        self._refuse("tag")

    def _refuse(self, reason: str) -> None:
        self._metrics.refused[reason] += 1
