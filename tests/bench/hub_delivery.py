"""Sends voice packets to a hub and measures when they arrive at the listeners."""

import select
import socket
import struct
import time

import numpy as np


class Delivery:
    """One packet per talker and interval on its way to the listeners.

    Args:
        talkers: With the attribute `media`, their sockets.
        voice: Packets of each talker.
        port: Media port of the hub.
        sockets: Of the listeners.
        listeners: Number of listeners of all talkers.

    Attributes:
        delivered: SSRCs of which a packet has arrived.
    """

    def __init__(
        self, talkers: list, voice: list[list[bytes]], interval_ms: float, port: int, sockets: list, listeners: int
    ) -> None:
        self._talkers = [(talker.media.sendto, packets) for talker, packets in zip(talkers, voice, strict=True)]
        self._target = "127.0.0.1", port
        self._sockets = {sock.fileno(): sock for sock in sockets}
        self._gap_ns = interval_ms * 1e6 / len(talkers)
        self._total = len(voice[0]) * len(talkers)
        self._expected = listeners * len(voice[0])
        self._sent_ns: dict[int, int] = {}  # by SSRC and sequence number
        self._delays_ns: list[int] = []
        self._max_at_once = 0
        self.delivered: set[int] = set()

    def run(self) -> None:
        """Send all packets, and receive until half a second after the last one."""
        talkers, target, sent_ns, receiving = self._talkers, self._target, self._sent_ns, select.epoll()
        for fd in self._sockets:
            receiving.register(fd, select.EPOLLIN)
        start, sent = time.time_ns(), 0
        while True:
            now = time.time_ns()
            due = min(self._total, int((now - start) / self._gap_ns) + 1)
            for k in range(sent, due):
                send, packets = talkers[k % len(talkers)]
                packet = packets[k // len(talkers)]
                sent_ns[_packet_id(packet)] = time.time_ns()
                send(packet, target)
            self._max_at_once = max(self._max_at_once, due - sent)
            sent = due
            if sent == self._total and now - start > self._total * self._gap_ns + 0.5e9:
                receiving.close()
                return
            for fd, _ in receiving.poll(0.0005):
                self._receive(self._sockets[fd])

    def _receive(self, sock: socket.socket) -> None:
        """Read a socket and append the delay of each packet, by the kernel's receive time."""
        recvmsg, sent_ns = sock.recvmsg, self._sent_ns
        for _ in range(64):
            try:
                data, ancillary, _, _ = recvmsg(600, 64)
            except BlockingIOError:
                return
            if data[1] & 0x7F != 8:
                continue
            number = _packet_id(data)
            start_ns = sent_ns.get(number)
            if start_ns is not None:
                s, ns = struct.unpack_from("@ll", ancillary[0][2])
                self._delays_ns.append(s * 1_000_000_000 + ns - start_ns)
                self.delivered.add(number >> 16)

    def result(self) -> dict:
        """Return the figures."""
        ms = np.array(self._delays_ns or [0]) / 1e6
        p50, p95, p99 = np.percentile(ms, [50, 95, 99])
        return {
            "sent": self._total,
            "wanted": self._expected,
            "lost": self._expected - len(self._delays_ns),
            "p50_ms": round(float(p50), 2),
            "p95_ms": round(float(p95), 2),
            "p99_ms": round(float(p99), 2),
            "most_ms": round(float(ms.max()), 2),
            "sent_at_once_most": self._max_at_once,
        }


def _packet_id(packet: bytes) -> int:
    """Return SSRC and sequence number of an RTP packet as one number."""
    return int.from_bytes(packet[8:12], "big") << 16 | packet[2] << 8 | packet[3]
