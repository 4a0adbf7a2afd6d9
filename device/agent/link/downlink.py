"""Frames from the hub: genuine, new, and stored as seen before anything is done about them."""

import patrolink_messages as m
from agent.tracking.counter import Record
from patrolink_protocol import decode, frame
from patrolink_protocol.errors import RejectError
from patrolink_protocol.receiver import Receiver


class Downlink:
    """
    store    hal store for the highest counter accepted
    events   link.events.Events, told of answers
    duties   {message type: function(message)} of what else is acted on
    """

    def __init__(self, key, device, epoch, store, events, log):
        self._seen = Record(store, "down")  # key epoch, highest counter + 1
        epoch = max(epoch, self._seen.a)  # the hub may have begun a later one than the configuration names
        highest = self._seen.b - 1 if self._seen.a == epoch else -1
        self._receiver = Receiver(key, device, frame.DOWNLINK, epoch, highest)
        self._events = events
        self._log = log
        self.duties = {}
        self.taken = self.refused = 0

    def take(self, data):
        """Take one frame. What is not genuine, not new or not understood is counted, and nothing is done."""
        try:
            kind, counter, body, _, _ = self._receiver.open(data)
            self._seen.write(self._receiver.epoch, counter + 1)
            message = decode.decode(kind, body)
        except RejectError as e:
            self.refused += 1
            self._log("hub: a frame was refused (%s)" % e.name)
            return
        self.taken += 1
        if kind == m.EVENT_STATE:
            self._events.remove(message["event_id"])
        elif kind in self.duties:
            self.duties[kind](message)

    @property
    def epoch(self):
        """The key epoch in force."""
        return self._receiver.epoch
