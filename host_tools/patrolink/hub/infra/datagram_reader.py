"""Reads a UDP socket on the event loop, in batches, with a rate limit for each source."""

import asyncio
import socket
import struct
from collections.abc import Callable

from patrolink.core.clock import Clock
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.udp import UdpSocket

Address = tuple[object, ...]
OnDatagram = Callable[[bytearray, int, Address, int], None]

_MAX_DATAGRAM = 2048
_MAX_SOURCES = 50_000  # sources that are counted at once; more are refused
_BATCH = 64  # datagrams before other sockets are served
_ANCILLARY_BYTES = 64


class SourceLimiter:
    """Counts the datagrams of each source since the last reset. `reset` is called once a second.

    Args:
        limit: Datagrams of one source between two resets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[Address, int] = {}

    def admit(self, source: Address) -> bool:
        """Count a datagram. Returns False if the source has reached its limit."""
        count = self._counts.get(source, 0)
        if count >= self._limit or (not count and len(self._counts) >= _MAX_SOURCES):
            return False
        self._counts[source] = count + 1
        return True

    def reset(self) -> None:
        """Start a new second."""
        self._counts.clear()


class DatagramReader:
    """Reads one socket.

    The callback runs on the event loop without a transport's copies and queues. It gets the buffer, valid during the
    call only, the length, the source address, and the arrival in nanoseconds of Unix time.

    Args:
        sock: The socket. The caller closes it.
        admit: Returns False for a datagram that is refused as "flood", by its source.
        clock: Time of arrival where the kernel reports none.
        on_datagram: Callback for each datagram.
    """

    def __init__(
        self,
        sock: UdpSocket,
        admit: Callable[[Address], bool],
        on_datagram: OnDatagram,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._sock, self._admit, self._on_datagram = sock, admit, on_datagram
        self._clock, self._metrics = clock, metrics
        self._buf = bytearray(_MAX_DATAGRAM)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Read from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._read)

    def close(self) -> None:
        """Stop reading."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock)

    def _read(self) -> None:
        buf, buffers, receive = self._buf, [self._buf], self._sock.recvmsg_into
        for _ in range(_BATCH):
            try:
                n, ancillary, flags, source = receive(buffers, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error for a datagram that was sent
                continue
            if not self._admit(source):
                self._metrics.refused["flood"] += 1
            elif flags & socket.MSG_TRUNC:
                self._metrics.refused["length"] += 1
            else:
                self._on_datagram(buf, n, source, _kernel_time_ns(ancillary) or self._clock.unix_ns())


def _kernel_time_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    if not ancillary:
        return 0
    s, ns = struct.unpack_from("@ll", ancillary[0][2])
    return int(s) * 1_000_000_000 + int(ns)
