"""Notifications to the service manager, systemd (sd_notify(3)). CPython only."""

import os
import socket
import time

_FEED_S = 1.0  # between two of them; the limit of the service is a minute


class ServiceManager:
    """The manager that has started this process."""

    def __init__(self):
        address = os.getenv("NOTIFY_SOCKET") or ""
        if address.startswith("@"):
            address = "\0" + address[1:]
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._fed_s = None

    def notify(self, state):
        """Send a state, such as READY=1. Without a manager, or when it is busy, nothing is sent."""
        try:
            self._socket.sendto(state.encode(), self._address)
        except OSError:
            pass  # a feed that is lost is followed by the next one

    def feed(self):
        """Restart the countdown of the watchdog."""
        now_s = time.monotonic()
        if self._fed_s is None or now_s - self._fed_s >= _FEED_S:
            self._fed_s = now_s
            self.notify("WATCHDOG=1")
