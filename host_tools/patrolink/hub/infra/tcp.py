"""Listening TCP sockets of a hub."""

import errno
import socket

_BACKLOG = 128


def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of a host.

    Raises:
        OSError: The host has no address on this machine, or the port is in use.
    """
    listeners: list[socket.socket] = []
    fault = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    for family, *_, address in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        try:
            listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as e:
            if e.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for other in listeners:
                    other.close()
                raise
            fault = e  # `localhost` may have an address of a family that this machine does not have
        else:
            listener.setblocking(False)
            listeners.append(listener)
    if not listeners:
        raise fault
    return listeners
