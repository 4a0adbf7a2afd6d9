"""The time from the hub, for a device whose receiver and network give none (SPEC.md, TIME-1).

Commands are refused while the time is not known, and events have none: a device that is switched on indoors would stay
without both.
"""

import patrolink_messages as m
from patrolink_protocol.native import const

_RETRY_MS = const(60000)
_ROUND_TRIP_MAX_MS = const(10000)  # the error is at most half of it
_DAY_MS = const(86400000)


class TimeSync:
    """Requests the time until it is known.

    Args:
        reporter: agent.tracking.reporter.Reporter that sends the request and keeps the time.
        now_ms: Function that returns monotonic milliseconds.
    """

    def __init__(self, reporter, now_ms):
        self._reporter = reporter
        self._now_ms = now_ms
        self._originate_ms = None  # of the last request
        self._due_ms = now_ms()

    def poll(self, now_ms):
        """Send a request if one is due."""
        if now_ms >= self._due_ms:
            self._due_ms = now_ms + _RETRY_MS
            self._originate_ms = now_ms
            self._reporter.send(m.TIME_SYNC, {"originate_ms": now_ms})

    def on_answer(self, message):
        """Take the time from the answer to the last request, unless it took too long."""
        unix_ms = message["transmit_ms"]
        if self._originate_ms is None or message["originate_ms"] != self._originate_ms or unix_ms is None:
            return
        now_ms = self._now_ms()
        round_trip_ms = now_ms - self._originate_ms
        self._originate_ms = None
        if round_trip_ms <= _ROUND_TRIP_MAX_MS:
            unix_ms += round_trip_ms // 2
            self._reporter.clock.set_network(unix_ms // _DAY_MS, unix_ms % _DAY_MS, now_ms)
