"""Login sessions of browsers at the console. Seconds are passed in; there is no side effect."""

import secrets
from collections import OrderedDict
from collections.abc import Callable

from patrolink.hub.config import Dispatcher
from patrolink.hub.infra.attempt_limiter import AttemptLimiter, source_network

SESSION_S = 12 * 3600  # a shift
_MAX_SESSIONS = 1000


class LoginSession:
    """A browser that is logged in.

    Args:
        dispatcher: Who is logged in.
        expires_s: When the session expires.
    """

    def __init__(self, dispatcher: Dispatcher, expires_s: float) -> None:
        self.dispatcher, self.expires_s = dispatcher, expires_s
        self._end_callbacks: list[Callable[[], None]] = []

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function when the session ends before its expiry.

        Returns:
            A function that cancels this.
        """
        self._end_callbacks.append(callback)
        return lambda: self._end_callbacks.remove(callback)

    def end(self) -> None:
        """Inform all who registered with `on_end`."""
        for callback in list(self._end_callbacks):
            callback()


class LoginSessions:
    """The login sessions of a console.

    Args:
        find_dispatcher: Returns the dispatcher of a token, or None. Compares in constant time.
    """

    def __init__(self, find_dispatcher: Callable[[str], Dispatcher | None]) -> None:
        self._find_dispatcher = find_dispatcher
        self._sessions: OrderedDict[str, LoginSession] = OrderedDict()  # by secret, the oldest first
        self._limiter = AttemptLimiter()

    def authenticate(self, address: str, token: str, now_s: float) -> Dispatcher | None:
        """Return the dispatcher of a token, or None if the token is wrong, which is counted.

        The right token is always accepted: it has 256 random bits, so it cannot be guessed, and others behind the same
        address must not lock a dispatcher out.

        Raises:
            TooManyAttemptsError: The token is wrong, and so were many before it from this address.
        """
        dispatcher = self._find_dispatcher(token)
        if dispatcher is None:
            source = source_network(address)
            self._limiter.check(source, now_s)
            self._limiter.record_failure(source, now_s)
        return dispatcher

    def open(self, dispatcher: Dispatcher, now_s: float) -> str:
        """Start a session and return its secret for the cookie."""
        while self._sessions and (len(self._sessions) >= _MAX_SESSIONS or self._oldest().expires_s <= now_s):
            self.close(next(iter(self._sessions)))
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = LoginSession(dispatcher, now_s + SESSION_S)
        return secret

    def _oldest(self) -> LoginSession:
        return next(iter(self._sessions.values()))

    def get(self, secret: str, now_s: float) -> LoginSession | None:
        """Return the session of a cookie, or None if there is none or it has expired."""
        session = self._sessions.get(secret)
        return session if session is not None and now_s < session.expires_s else None

    def close(self, secret: str) -> None:
        """End a session."""
        session = self._sessions.pop(secret, None)
        if session is not None:
            session.end()
