"""Receives SRTCP packets of devices: floor control messages and keepalives."""

from collections.abc import Mapping

from patrolink_protocol import group_report, mcptt, srtp

from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.floor_sender import FloorSender
from patrolink.hub.voice.floor_server import FloorServer
from patrolink.hub.voice.floor_trace import FloorTrace
from patrolink.hub.voice.group_terms import GroupTerms
from patrolink.hub.voice.groups import Address, Device, Membership
from patrolink.hub.voice.presence import DevicePresence

_APP = 204  # RTCP packet type of floor control messages
_MIN_PACKET = 12


class ControlReceiver:
    """Authenticates SRTCP packets and passes them to presence and floor control.

    Args:
        memberships: By the device's SSRC.
        trace: Receives each floor message in plain text; None: no trace.
    """

    def __init__(
        self,
        memberships: Mapping[int, Membership],
        presence: DevicePresence,
        server: FloorServer,
        sender: FloorSender,
        terms: GroupTerms,
        metrics: Metrics,
        trace: FloorTrace | None,
    ) -> None:
        self._memberships, self._presence, self._server = memberships, presence, server
        self._sender, self._terms, self._metrics, self._trace = sender, terms, metrics, trace

    def on_floor_datagram(self, buf: bytearray, n: int, source: Address, _arrival_ns: int) -> None:
        """Process a datagram of the floor socket."""
        self._process(buf, n, source, is_media=False)

    def on_media_rtcp(self, buf: bytearray, n: int, source: Address) -> None:
        """Process an SRTCP packet of the media socket: a keepalive that keeps the address known."""
        self._process(buf, n, source, is_media=True)

    def _process(self, buf: bytearray, n: int, source: Address, is_media: bool) -> None:
        if n < _MIN_PACKET:
            self._refuse("length")
            return
        membership = self._memberships.get(int.from_bytes(buf[4:8], "big"))
        if membership is None:
            self._refuse("ssrc")
            return
        device = membership.device
        try:
            n = device.uplink_srtcp.open(buf, n)
        except srtp.SrtpError as e:
            self._refuse(str(e))
            if str(e) == "replay":  # it is authentic
                self._presence.stale_packet(device, source)
            return
        index = int.from_bytes(buf[n : n + 4], "big") & srtp.INDEX_MAX
        self._record_sighting(membership, source, is_media, index)
        if buf[1] == group_report.RECEIVER_REPORT:
            self._metrics.counts["keepalives"] += 1
            if not is_media:
                self._sender.send_report(device, membership.group.floor.hub_ssrc)
                self._group_report(device, bytes(buf[:n]))
        elif is_media or buf[1] != _APP:
            self._refuse("packet type")
        else:
            self._floor_message(membership, bytes(buf[:n]), index, source)

    def _record_sighting(self, membership: Membership, source: Address, is_media: bool, index: int) -> None:
        device = membership.device
        if self._presence.packet_received(device, source, is_media, index):
            for entry in device.memberships.values():
                self._metrics.counts["late_entries"] += 1
                self._server.sync(entry.group, entry.member)

    def _group_report(self, device: Device, packet: bytes) -> None:
        try:
            report = group_report.read_receiver_report(packet)
            if report is not None and not device.is_dispatcher:
                self._terms.report_received(device, *report)
        except ValueError:
            self._refuse("report of groups")

    def _floor_message(self, membership: Membership, data: bytes, index: int, source: Address) -> None:
        self._metrics.counts["floor_in"] += 1
        if self._trace is not None:
            self._trace.write_received(source, data)
        try:
            self._server.receive(membership.group, membership.member, data, index)
        except mcptt.FloorError:
            self._refuse("floor message")

    def _refuse(self, reason: str) -> None:
        self._metrics.refused[reason] += 1
