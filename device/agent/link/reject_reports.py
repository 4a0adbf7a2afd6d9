"""Reports of rejected frames, to the hub and from it (SPEC.md, REJECT-1). Loaded with the first one: they are rare.

A hub with an error must not make the device send a report for each frame, so there is a shortest time between two.
"""

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol.native import const

_DETAIL_MAX = const(40)


class RejectReports:
    """Sends and counts reports.

    Args:
        send: Function(message type, values) that sends a message to the hub.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.

    Attributes:
        received: Reports of the hub since boot.
    """

    def __init__(self, send, now_ms, log):
        self._send = send
        self._now_ms = now_ms
        self._log = log
        self._sent_ms = None  # time of the last report
        self.received = 0

    def send(self, kind, counter, error):
        """Report an authentic frame that was rejected, unless the last report is too recent.

        Args:
            kind: Message type of the frame. A reject is not reported.
            counter: Its counter.
            error: The RejectError.
        """
        now_ms = self._now_ms()
        if kind == m.REJECT or self._sent_ms is not None and now_ms - self._sent_ms < enums.TIMER_REJECT_INTERVAL_MS:
            return
        self._sent_ms = now_ms
        detail = str(error)[:_DETAIL_MAX].encode()
        self._send(
            m.REJECT, {"refused_counter": counter, "message_type": kind, "reason": error.reason, "detail": detail}
        )

    def on_reject(self, message):
        """Count and log a report of the hub."""
        self.received += 1
        reasons = m.REASONS.split()
        reason = message["reason"]
        name = reasons[reason - 1] if 1 <= reason <= len(reasons) else "reason %d" % reason
        self._log(
            "hub: rejected frame %d of type %d (%s)" % (message["refused_counter"], message["message_type"], name)
        )
