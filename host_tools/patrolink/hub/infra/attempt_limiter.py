"""Limits failed authentications per source address. Seconds are passed in; there is no side effect."""

import ipaddress
from collections import OrderedDict
from typing import NamedTuple

MAX_ATTEMPTS = 5  # failed attempts of a source in a row
ATTEMPT_INTERVAL_S = 10  # one more is allowed each interval
_MAX_SOURCES = 10_000


class TooManyAttemptsError(Exception):
    """Too many failed attempts came from a source.

    Args:
        retry_s: Seconds until the next attempt is allowed.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(retry_s)
        self.retry_s = retry_s


class _Failures(NamedTuple):
    number: int
    last_s: float


class AttemptLimiter:
    """Counts failed attempts per source: MAX_ATTEMPTS in a row, then one each ATTEMPT_INTERVAL_S."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()  # least recent first

    def check(self, source: str, now_s: float) -> None:
        """Check that a source may make another attempt.

        Raises:
            TooManyAttemptsError: It may not.
        """
        failures = self._current(source, now_s)
        if failures.number >= MAX_ATTEMPTS:
            raise TooManyAttemptsError(int(failures.last_s + ATTEMPT_INTERVAL_S - now_s) + 1)

    def record_failure(self, source: str, now_s: float) -> None:
        """Count a failed attempt."""
        self._failures[source] = _Failures(self._current(source, now_s).number + 1, now_s)
        self._failures.move_to_end(source)
        if len(self._failures) > _MAX_SOURCES:
            self._failures.popitem(last=False)

    def _current(self, source: str, now_s: float) -> _Failures:
        failures = self._failures.get(source, _Failures(0, now_s))
        forgiven = int((now_s - failures.last_s) / ATTEMPT_INTERVAL_S)
        return failures._replace(number=max(0, failures.number - forgiven))


def source_network(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or an IPv6 /64, as one host may have 2**64 addresses."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)
