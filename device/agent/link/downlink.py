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

    Attributes:
        received: Frames acted on since boot.
        rejected: Frames rejected since boot.
    """

    def __init__(self, key, device, epoch, accepted, log):
        self._accepted = accepted
        epoch = max(epoch, accepted.first)
        highest = accepted.second - 1 if accepted.first == epoch else -1
        self._receiver = Receiver(key, device, frame.DOWNLINK, epoch, highest)
        self._log = log
        self._handlers = {}
        self.received = self.rejected = 0

    def add_handlers(self, handlers):
        """Register {message type: function(message)}. Messages without a handler are ignored."""
        self._handlers.update(handlers)

    def receive(self, data):
        """Act on one frame. A frame that is forged, replayed or malformed is counted and otherwise ignored."""
        try:
            kind, counter, _ = self._receiver.accept(data)
            if not self._record(counter) and kind != m.EVENT_STATE:
                self._reject("storage refuses its counter")
                return
            body, _ = self._receiver.read(data)
            message = decode.decode(kind, body)
        except RejectError as e:
            self._reject(e.name)
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

    @property
    def epoch(self):
        """The key epoch in force."""
        return self._receiver.epoch
