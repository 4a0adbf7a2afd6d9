"""Receives the voice of groups for all dispatchers of a hub: one socket, each packet opened once.

The relay sends one copy of a packet, however many dispatchers listen to its group.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from patrolink_protocol import srtp

from patrolink.core.clock import Clock
from patrolink.hub.dispatch.opus_decoder import ALAW_RATE, OPUS_RATE, OpusDecoder
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.datagram_reader import Address, DatagramReader
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.udp import UdpSocket
from patrolink.hub.voice.recording_writer import OPUS, PCMA

_BURSTS_OF_GROUP = 2  # whose state is kept: the current one, and the one before, whose last packets may be late
_MAX_EARLY = 64  # packets that arrived before the Floor Taken of their burst


class VoiceListener(Protocol):
    """A dispatcher who listens to a group."""

    def voice_received(self, ssrc: int, timestamp: int, alaw: bytes) -> None:
        """Process a packet: RTP timestamp at 8 kHz, and samples."""

    def group_ended(self) -> None:
        """Forget the group, which has ended."""


class _Key(NamedTuple):
    number: int
    context: srtp.SrtpTransform


@dataclass(eq=False)
class _Group:
    """Keys, the current one first, listeners, and SSRCs of the newest bursts of a group, oldest first."""

    keys: list[_Key] = field(default_factory=list)
    listeners: list[VoiceListener] = field(default_factory=list)
    ssrcs: list[int] = field(default_factory=list)

    def use(self, key: GroupKey) -> None:
        if not self.keys or self.keys[0].number != key.number:
            self.keys = [_Key(key.number, key.srtp_context()), *self.keys[:1]]


@dataclass(eq=False)
class _Burst:
    group: _Group
    stream: srtp.SrtpStream = field(default_factory=srtp.SrtpStream)
    decoder: OpusDecoder | None = None


class VoiceReceiver:
    """Receiver of the dispatchers' voice. A DispatcherLink.

    Args:
        sock: The socket. The receiver closes it.
    """

    def __init__(self, sock: UdpSocket, clock: Clock, metrics: Metrics) -> None:
        self._sock, self._metrics = sock, metrics
        self._groups: dict[int, _Group] = {}
        self._bursts: dict[int, _Burst] = {}  # of the groups, by SSRC
        self._early: deque[tuple[int, bytes]] = deque(maxlen=_MAX_EARLY)
        self._reader = DatagramReader(sock, _admit, self._on_datagram, clock, metrics)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the relay sends to."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Receive from now on."""
        self._reader.start()

    def close(self) -> None:
        """Stop receiving, and close the socket."""
        self._reader.close()
        self._sock.close()

    # --- groups -------------------------------------------------------------------------------------------------------

    def add(self, number: int, key: GroupKey, listener: VoiceListener) -> None:
        """Deliver a group's voice to a listener from now on."""
        group = self._groups.setdefault(number, _Group())
        group.use(key)
        group.listeners.append(listener)

    def remove(self, number: int, listener: VoiceListener) -> None:
        """Stop delivering a group's voice to a listener."""
        group = self._groups.get(number)
        if group is not None:
            group.listeners.remove(listener)
            if not group.listeners:
                self._forget(number)

    def context(self, number: int) -> srtp.SrtpTransform:
        """Return the SRTP context of the current key of a group that has a listener."""
        return self._groups[number].keys[0].context

    def group_key_changed(self, group: int, key: GroupKey) -> None:
        """Use another key for a group's voice; see DispatcherLink."""
        if group in self._groups:
            self._groups[group].use(key)

    def group_ended(self, group: int) -> None:
        """Forget a group, and inform its listeners; see DispatcherLink."""
        for listener in self._forget(group):
            listener.group_ended()

    def _forget(self, number: int) -> list[VoiceListener]:
        """Forget a group with its bursts; return its listeners."""
        group = self._groups.pop(number, None) or _Group()
        for ssrc in group.ssrcs:
            del self._bursts[ssrc]
        return group.listeners

    # --- voice --------------------------------------------------------------------------------------------------------

    def burst_began(self, number: int, ssrc: int) -> None:
        """Take packets of an SSRC as voice of a group from now on. Every listener of the group calls it."""
        if ssrc in self._bursts:
            return
        group = self._groups[number]
        self._bursts[ssrc] = _Burst(group)
        group.ssrcs.append(ssrc)
        if len(group.ssrcs) > _BURSTS_OF_GROUP:
            del self._bursts[group.ssrcs.pop(0)]
        early = [packet for packet in self._early if packet[0] == ssrc]
        for packet in early:
            self._early.remove(packet)
            self._receive(ssrc, bytearray(packet[1]))

    def _on_datagram(self, buf: bytearray, n: int, _source: Address, _arrival_ns: int) -> None:
        if n < srtp.RTP_HEADER_BYTES or 192 <= buf[1] <= 223:  # RTCP packet types (RFC 5761 4)
            self._metrics.refused["dispatcher voice"] += 1
            return
        ssrc, packet = int.from_bytes(buf[8:12], "big"), buf[:n]
        if ssrc in self._bursts:
            self._receive(ssrc, packet)
        else:
            self._early.append((ssrc, bytes(packet)))

    def _receive(self, ssrc: int, packet: bytearray) -> None:
        burst = self._bursts[ssrc]
        group = burst.group
        n = _open(group, packet, burst.stream)
        if not n:
            self._metrics.refused["dispatcher voice"] += 1
            return
        payload = bytes(packet[srtp.payload_offset(packet, n) : n])
        payload_type, timestamp = packet[1] & 0x7F, int.from_bytes(packet[4:8], "big")
        if payload_type == OPUS:
            burst.decoder = burst.decoder or OpusDecoder()
            payload, timestamp = burst.decoder.decode(payload), timestamp // (OPUS_RATE // ALAW_RATE)
        elif payload_type != PCMA:
            return
        if payload:
            for listener in group.listeners:
                listener.voice_received(ssrc, timestamp, payload)


def _open(group: _Group, packet: bytearray, stream: srtp.SrtpStream) -> int:
    """Authenticate and decrypt a packet in place. Returns the length of the plain packet, 0 if it is refused."""
    for key in group.keys:
        try:
            n: int = key.context.open(packet, len(packet), stream)
            return n
        except srtp.SrtpError:
            continue
    return 0


def _admit(_source: Address) -> bool:
    return True
