"""Authenticates dispatchers and opens their sessions."""

import hmac
from collections.abc import Sequence

from patrolink.hub.config import Dispatcher, token_hash
from patrolink.hub.dispatch.ports import SessionPorts
from patrolink.hub.dispatch.request_limits import RequestLimits
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.infra.metrics import Metrics


class SessionManager:
    """Entry of dispatchers to a hub.

    Args:
        dispatchers: Who may use the console.
        ports: Interfaces that each session gets.
    """

    def __init__(self, dispatchers: Sequence[Dispatcher], ports: SessionPorts, metrics: Metrics) -> None:
        self._dispatchers, self._ports = dispatchers, ports
        self._limits = {dispatcher.name: RequestLimits(ports.clock, metrics) for dispatcher in dispatchers}

    def authenticate(self, token: str) -> Dispatcher | None:
        """Return the dispatcher of a token, None if there is none. Takes the same time for any token."""
        digest = token_hash(token)
        matches = [entry for entry in self._dispatchers if hmac.compare_digest(entry.token_sha256, digest)]
        return matches[0] if matches else None

    def open(self, dispatcher: Dispatcher) -> DispatcherSession:
        """Return a new session, which the caller has to close."""
        return DispatcherSession(dispatcher, self._ports, self._limits[dispatcher.name])
