"""Token buckets, and notices that repeat at most once per interval. Milliseconds are passed in."""

from typing import NamedTuple


class Rate(NamedTuple):
    """A rate limit.

    Attributes:
        burst: How many are allowed at once.
        interval_ms: One more is allowed each interval.
    """

    burst: int
    interval_ms: int


class TokenBucket:
    """Limits a rate. A new bucket is full. If the time jumps back, the bucket is not refilled until it catches up."""

    __slots__ = ("_level", "_newest_ms", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._level = rate.burst * rate.interval_ms  # in milliseconds of refill, which has no rounding
        self._newest_ms: int | None = None

    def _refill(self, now_ms: int) -> None:
        if self._newest_ms is None:
            self._newest_ms = now_ms
        elif now_ms > self._newest_ms:
            full = self._rate.burst * self._rate.interval_ms
            self._level = min(full, self._level + now_ms - self._newest_ms)
            self._newest_ms = now_ms

    def has_token(self, now_ms: int) -> bool:
        """Return True if `take` would succeed."""
        self._refill(now_ms)
        return self._level >= self._rate.interval_ms

    def take(self, now_ms: int) -> bool:
        """Take one token. Returns False if there is none."""
        if not self.has_token(now_ms):
            return False
        self._level -= self._rate.interval_ms
        return True

    def wait_ms(self, now_ms: int) -> int:
        """Return the time until the next token."""
        self._refill(now_ms)
        return max(0, self._rate.interval_ms - self._level)


class NoticeLimiter:
    """Lets a notice about each subject pass once per interval.

    Args:
        interval_ms: Time between two notices about the same subject.
        subjects_max: Subjects that are remembered; the one of the oldest notice is forgotten first.
    """

    def __init__(self, interval_ms: int, subjects_max: int = 100_000) -> None:
        self._interval_ms, self._subjects_max = interval_ms, subjects_max
        self._last_ms: dict[object, int] = {}

    def is_due(self, subject: object, now_ms: int) -> bool:
        """Return True and remember the time if a notice about the subject may be given now."""
        last_ms = self._last_ms.get(subject)
        if last_ms is not None and now_ms - last_ms < self._interval_ms:
            return False
        self._last_ms.pop(subject, None)  # the newest is the last
        self._last_ms[subject] = now_ms
        if len(self._last_ms) > self._subjects_max:
            del self._last_ms[next(iter(self._last_ms))]
        return True
