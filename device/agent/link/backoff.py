"""Retry intervals with exponential back-off and jitter, so that the devices of a fleet do not reconnect together."""


class Backoff:
    """Retry intervals that double up to a cap.

    Args:
        randbelow: Function (n) -> uniform integer in 0..n-1.
        base_ms: First interval at most, in milliseconds.
        cap_ms: Longest interval, in milliseconds.
    """

    def __init__(self, randbelow, base_ms=1000, cap_ms=60000):
        self._randbelow = randbelow
        self._base_ms = base_ms
        self._cap_ms = cap_ms
        self._interval_ms = base_ms

    def reset(self):
        """Begin with the first interval again: the peer works."""
        self._interval_ms = self._base_ms

    def next_ms(self):
        """Return the next wait: uniform between half of the current interval and all of it."""
        interval_ms = self._interval_ms
        self._interval_ms = min(interval_ms * 2, self._cap_ms)
        return (interval_ms >> 1) + self._randbelow((interval_ms >> 1) + 1)
