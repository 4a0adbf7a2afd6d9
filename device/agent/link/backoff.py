"""Waiting times between attempts: doubling, capped, jittered so that a fleet does not come back in step."""


class Backoff:
    """`randbelow(n)` returns a uniform integer in 0..n-1."""

    def __init__(self, randbelow, base_ms=1000, cap_ms=60000):
        self._randbelow = randbelow
        self._base_ms = base_ms
        self._cap_ms = cap_ms
        self._span_ms = base_ms

    def reset(self):
        """The peer is well again: the next wait is short."""
        self._span_ms = self._base_ms

    def next_ms(self):
        """Return the next wait, between half and all of a span that doubles from base to cap."""
        span = self._span_ms
        self._span_ms = min(span * 2, self._cap_ms)
        return (span >> 1) + self._randbelow((span >> 1) + 1)
