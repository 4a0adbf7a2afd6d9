"""Sends floor control messages and receiver reports to devices, under SRTCP."""

from typing import Any, Protocol

from patrolink_protocol.group_report import RECEIVER_REPORT

from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.persistence import HighWaterMark
from patrolink.hub.voice.floor_trace import FloorTrace
from patrolink.hub.voice.groups import Address, Device

_MAX_DATAGRAM = 2048


class DatagramSender(Protocol):
    """The sending half of a UDP socket."""

    def sendto(self, data: Any, address: Address, /) -> int:
        """Send one datagram."""


class FloorSender:
    """Protects and sends RTCP packets on the floor socket.

    Args:
        sock: The floor socket.
        rtcp_indices: Keeps the SRTCP indices on storage ahead of those in use.
        trace: Receives each floor message in plain text; None: no trace.
    """

    def __init__(
        self, sock: DatagramSender, rtcp_indices: HighWaterMark, metrics: Metrics, trace: FloorTrace | None
    ) -> None:
        self._sock, self._rtcp_indices, self._metrics, self._trace = sock, rtcp_indices, metrics, trace
        self._buf = bytearray(_MAX_DATAGRAM)
        self._view = memoryview(self._buf)

    def send(self, device: Device, data: bytes) -> None:
        """Send plain floor control messages to a device. Without a known address they are dropped."""
        self._metrics.counts["floor_out"] += 1
        if self._trace is not None and device.floor_address is not None:
            self._trace.write_sent(device.floor_address, data)
        self._send(device, data)

    def send_report(self, device: Device, ssrc: int) -> None:
        """Answer a keepalive with an empty receiver report of `ssrc`."""
        self._send(device, bytes((0x80, RECEIVER_REPORT, 0, 1)) + ssrc.to_bytes(4, "big"))

    def _send(self, device: Device, data: bytes) -> None:
        if device.floor_address is None:
            return
        try:
            self._rtcp_indices.reserve(device.rtcp_index)
        except OSError:  # an index that is not reserved on storage could be used twice
            self._metrics.counts["storage_failed"] += 1
            return
        self._buf[: len(data)] = data
        n = device.downlink_srtcp.protect(self._buf, len(data), device.rtcp_index)
        device.rtcp_index += 1
        try:
            self._sock.sendto(self._view[:n], device.floor_address)
        except OSError as e:
            self._metrics.count_send_error(e)
