"""Limits of the events that one device may report. Milliseconds are passed in; there is no side effect.

A device that was offline for days delivers up to 32 unanswered events at once: that is within the limits. An event that
has to be answered and is refused is not lost, because its device repeats it until it is answered.
"""

from patrolink.core.decoder import Row
from patrolink.hub.infra.rate_limits import Rate, TokenBucket

_RATES = {
    "emergency": Rate(40, 10_000),  # apart from other alarms, which must not use up the budget of an SOS
    "alarm": Rate(40, 10_000),
    "report": Rate(1000, 1000),  # events that need no answer
    "repetition": Rate(60, 1000),  # of events that are known
}
_EMERGENCIES = ("sos", "man_down")


class EventLimits:
    """The budgets of all devices. Only authentic events are charged, so nobody can use up the budget of a device."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    def admit_event(self, row: Row, now_ms: int) -> bool:
        """Charge an event that is not known yet. Returns False if it has to be refused."""
        if not row["ack_wanted"]:
            return self._take(row["device"], "report", now_ms)
        return self._take(row["device"], "emergency" if row["kind"] in _EMERGENCIES else "alarm", now_ms)

    def admit_repetition(self, device: str, now_ms: int) -> bool:
        """Charge the answer to a repeated event that is known. Returns False if it has to be refused."""
        return self._take(device, "repetition", now_ms)

    def _take(self, device: str, name: str, now_ms: int) -> bool:
        bucket = self._buckets.get((device, name))
        if bucket is None:
            bucket = self._buckets[device, name] = TokenBucket(_RATES[name])
        return bucket.take(now_ms)
