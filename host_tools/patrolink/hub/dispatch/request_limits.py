"""Limits of the requests of one dispatcher, over all of the dispatcher's sessions."""

from typing import Literal

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.rate_limits import Rate, TokenBucket

RequestClass = Literal["vital", "ordinary", "command"]
# "vital" is what must never wait for the rest: answers to events, and what ends a transmission.
_RATES: dict[RequestClass, Rate] = {"vital": Rate(500, 20), "ordinary": Rate(200, 50), "command": Rate(200, 200)}


class RequestLimits:
    """The budgets of one dispatcher."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock, self._metrics = clock, metrics
        self._buckets = {name: TokenBucket(rate) for name, rate in _RATES.items()}

    def charge(self, request_class: RequestClass) -> None:
        """Charge a request.

        Raises:
            UserError: The dispatcher has sent too many requests of this class.
        """
        bucket, now_ms = self._buckets[request_class], self._clock.monotonic_ms()
        if not bucket.take(now_ms):
            self._metrics.refused["dispatcher rate"] += 1
            rate = _RATES[request_class]
            raise UserError(
                f"too many requests: at most {1000 // rate.interval_ms} a second after the first {rate.burst}; "
                f"retry in {bucket.wait_ms(now_ms)} ms"
            )
