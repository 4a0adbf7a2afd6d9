"""Frames from the hub: authenticated, checked against replay, and recorded as received before they are acted on.

When storage refuses the record, only the answers to events are acted on: their repetition after a restart changes
nothing. A command could be carried out twice.
"""

import patrolink_messages as m
from patrolink_protocol import decode, frame
from patrolink_protocol.errors import RejectError
from patrolink_protocol.receiver import Receiver


class Downlink:
    """Receiver of the downlink.

    Args:
        key: Device key, 32 bytes.
        device: Device id, bytes.
        epoch: Key epoch of the configuration. A later epoch that the hub has begun takes precedence.
        accepted: agent.tracking.counter.Record of (key epoch, highest accepted counter + 1).
        log: Function of one string.
        send: Function(message type, values) that sends a message to the hub.
        now_ms: Function that returns monotonic milliseconds.

    Attributes:
        received: Frames acted on since boot.
        rejected: Frames rejected since boot.
        reports: agent.link.reject_reports.RejectReports, or None before the first.
    """

    def __init__(self, key, device, epoch, accepted, log, send, now_ms):
        self._accepted = accepted
        self._send = send
        self._now_ms = now_ms
        self.reports = None
        epoch = max(epoch, accepted.first)
        highest = accepted.second - 1 if accepted.first == epoch else -1
        self._receiver = Receiver(key, device, frame.DOWNLINK, epoch, highest)
        self._log = log
        self._handlers = {m.REJECT: self._on_reject}
        self.received = self.rejected = 0

    def add_handlers(self, handlers):
        """Register {message type: function(message)}. Messages without a handler are ignored."""
        self._handlers.update(handlers)

    def receive(self, data):
        """Act on one frame. A frame that is forged, replayed or malformed is counted and otherwise ignored."""
        try:
            kind, counter, _ = self._receiver.accept(data)
        except RejectError as e:
            # Not reported: a replayed frame is authentic, but the broker may deliver every frame more than once.
            self._reject(e.name)
            return
        if not self._record(counter) and kind != m.EVENT_STATE:
            self._reject("storage refuses its counter")
            return
        try:
            body, _ = self._receiver.read(data)
            message = decode.decode(kind, body)
        except RejectError as e:
            self._reject(e.name)
            self._load_reports().send(kind, counter, e)
            return
        self.received += 1
        if kind in self._handlers:
            self._handlers[kind](message)

    def _record(self, counter):
        try:
            self._accepted.write(self._receiver.epoch, counter + 1)
        except OSError:
            return False
        return True

    def _reject(self, reason):
        self.rejected += 1
        self._log("hub: frame rejected (%s)" % reason)

    def _load_reports(self):
        if self.reports is None:
            from agent.link.reject_reports import RejectReports

            self.reports = RejectReports(self._send, self._now_ms, self._log)
        return self.reports

    def _on_reject(self, message):
        self._load_reports().on_reject(message)

    @property
    def epoch(self):
        """The key epoch in force."""
        return self._receiver.epoch
