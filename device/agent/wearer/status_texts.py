"""Status texts that the wearer sends by number."""

import patrolink_enums as enums
import patrolink_messages as m


class StatusTexts:
    """The configured texts.

    Args:
        texts: List of texts; the first has number 1.
        ids: agent.tracking.counter.Record of the last text id, in its `second`.
        reporter: agent.tracking.reporter.Reporter.
        retry_now: Function that ends a back-off of the connection.
    """

    def __init__(self, texts, ids, reporter, retry_now):
        self._texts = texts
        self._ids = ids
        self._last_id = ids.second
        self._reporter = reporter
        self._retry_now = retry_now

    def send(self, number, now_ms):
        """Send a text.

        Args:
            number: Number of the text as bytes of decimal digits; other numbers are ignored.
            now_ms: Monotonic milliseconds.
        """
        try:
            text = self._texts[int(number) - 1]
        except (ValueError, IndexError):
            return
        self._last_id = (self._last_id + 1) & 0xFFFFFFFF
        try:
            self._ids.write(0, self._last_id)
        except OSError:
            pass  # the text matters more than its number, which may come again after a restart
        values = {
            "text_id": self._last_id,
            "time_ms": self._reporter.clock.unix_ms(now_ms),
            "priority": enums.TEXT_PRIORITY_ROUTINE,
            "ack": enums.TEXT_ACK_NONE,
            "sender": b"",
            "text": text.encode(),
        }
        self._reporter.send(m.TEXT, values)
        self._retry_now()
