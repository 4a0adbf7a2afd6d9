"""Who is logged in at the console: tokens tried, sessions open. Pure; seconds are handed in."""

import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from patrolink.hub.config import Dispatcher

SESSION_S = 12 * 3600  # a shift
TRIES = 5  # wrong tokens of an address in a row
TRY_AGAIN_S = 10  # until one more may be tried
_MOST_ADDRESSES = 10_000
_MOST_SESSIONS = 1000


class TooMany(Exception):
    """Too many wrong tokens came from this address.

    retry_s  until it may try again
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(retry_s)
        self.retry_s = retry_s


class Tries:
    """Counts what was wrong, by who it came from; TRIES may come in a row, then one each TRY_AGAIN_S."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many and when the last came

    def check(self, source: str, now_s: float) -> None:
        """Raise TooMany before what comes from there is looked at."""
        wrong, since_s = self._left(source, now_s)
        if wrong >= TRIES:
            raise TooMany(int(since_s + TRY_AGAIN_S - now_s) + 1)

    def wrong(self, source: str, now_s: float) -> None:
        """What came from there was wrong."""
        self._wrong[source] = (self._left(source, now_s)[0] + 1, now_s)
        self._wrong.move_to_end(source)
        if len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def _left(self, source: str, now_s: float) -> tuple[int, float]:
        wrong, since_s = self._wrong.get(source, (0, now_s))
        return max(0, wrong - int((now_s - since_s) / TRY_AGAIN_S)), since_s


@dataclass(eq=False)
class Session:
    """A browser that is logged in, until `ends_s`. `ended` is called for each of its sockets when it logs out."""

    dispatcher: Dispatcher
    ends_s: float
    ended: list[Callable[[], None]] = field(default_factory=list)


class Sessions:
    """
    known  the dispatcher of a token, None when there is none; compares in constant time
    """

    def __init__(self, known: Callable[[str], Dispatcher | None]) -> None:
        self._known = known
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._tries = Tries()

    def check(self, address: str, token: str, now_s: float) -> Dispatcher | None:
        """Return the dispatcher of a token. None: a wrong one, which is counted. TooMany before it is looked at."""
        source = network(address)
        self._tries.check(source, now_s)
        dispatcher = self._known(token)
        if dispatcher is None:
            self._tries.wrong(source, now_s)
        return dispatcher

    def open(self, dispatcher: Dispatcher, now_s: float) -> str:
        """Begin a session and return its secret, for the cookie."""
        while self._open and (len(self._open) >= _MOST_SESSIONS or next(iter(self._open.values())).ends_s <= now_s):
            self.close(next(iter(self._open)))
        secret = secrets.token_urlsafe(32)
        self._open[secret] = Session(dispatcher, now_s + SESSION_S)
        return secret

    def get(self, secret: str, now_s: float) -> Session | None:
        """Return the session of a cookie, None when there is none or it is over."""
        session = self._open.get(secret)
        return session if session is not None and now_s < session.ends_s else None

    def close(self, secret: str) -> None:
        """End a session, and what runs under it."""
        session = self._open.pop(secret, None)
        for ended in session.ended if session else ():
            ended()


def network(address: str) -> str:
    """Return what counts as one source: an IPv6 host may have 2**64 addresses."""
    try:
        it = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((it, 64), strict=False)) if it.version == 6 else str(it)
