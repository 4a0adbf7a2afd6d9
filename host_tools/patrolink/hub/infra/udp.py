"""UDP sockets of a hub."""

import contextlib
import socket
from typing import Any, Protocol

from patrolink.core.errors import UserError

_BUFFER_BYTES = 8 << 20
_SO_TIMESTAMPNS = 35  # Linux: the kernel reports when a datagram arrived; missing in Python's socket module


class UdpSocket(Protocol):
    """A non-blocking UDP socket, as the hub uses it. The event loop accepts it in `add_reader`."""

    def fileno(self) -> int:
        """Return the number that identifies the socket."""

    def getsockname(self) -> Any:
        """Return the address that the socket is bound to."""

    def recvmsg_into(self, buffers: list[bytearray], ancbufsize: int, /) -> Any:
        """Receive a datagram: length, ancillary data, flags and source.

        Raises:
            BlockingIOError: No datagram has arrived.
        """

    def recvfrom_into(self, buffer: bytearray, /) -> Any:
        """Receive a datagram: length and source; raises as `recvmsg_into`."""

    def sendto(self, data: Any, address: Any, /) -> int:
        """Send one datagram."""

    def close(self) -> None:
        """Close the socket."""


def bind_udp(host: str, port: int) -> socket.socket:
    """Return a non-blocking UDP socket with large buffers and kernel receive timestamps where available.

    Raises:
        UserError: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    with contextlib.suppress(OSError):  # not on Linux: the time of reading is used
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    try:
        sock.bind((host, port))
    except OSError as e:
        sock.close()
        raise UserError(
            f"cannot bind UDP {host}:{port}: {e.strerror}; stop the other hub, or change `listen` or the port"
        ) from None
    return sock
