"""Warnings about devices to all dispatchers and into the audit log, each at most once in ten minutes.

A finding while no dispatcher is connected is audited only, and does not delay the warning after the next finding.
"""

from typing import Any

from patrolink.core.clock import Clock
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.rate_limits import NoticeLimiter

_INTERVAL_MS = 600_000
_TEXTS = {
    "flood": "sends too much; what exceeds its limit is refused",
    "clone": "has a double: somebody else has its key. Bar it with `patrolink hub bar`",
}


class DeviceWarnings:
    """Warnings of a hub.

    A warning is a message to dispatchers: `type` "warning", `device`, `warning` ("flood" or "clone") and `text`.
    """

    def __init__(self, dispatchers: Broadcaster, audit: AuditLog, clock: Clock, metrics: Metrics) -> None:
        self._dispatchers, self._audit, self._clock, self._metrics = dispatchers, audit, clock, metrics
        self._audited, self._shown = NoticeLimiter(_INTERVAL_MS), NoticeLimiter(_INTERVAL_MS)

    def warn(self, device: str, warning: str, **facts: Any) -> None:
        """Count a finding about a device, and give the warning if it is due.

        Args:
            device: Id of the device.
            warning: "flood" or "clone".
            facts: What was found, for the audit log.
        """
        self._metrics.counts[f"warnings_{warning}"] += 1
        now_ms = self._clock.monotonic_ms()
        if self._audited.is_due((device, warning), now_ms):
            self._audit.note(device, warning, **facts)
        if len(self._dispatchers) and self._shown.is_due((device, warning), now_ms):
            message = {"type": "warning", "device": device, "warning": warning, "text": _TEXTS[warning]}
            self._dispatchers.broadcast(message)
