"""UDP sockets of a hub."""

import contextlib
import socket

from patrolink.core.errors import UserError

_BUFFER_BYTES = 8 << 20
_SO_TIMESTAMPNS = 35  # Linux: the kernel reports when a datagram arrived; missing in Python's socket module


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
