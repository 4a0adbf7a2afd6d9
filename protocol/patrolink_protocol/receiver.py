"""The receiving end of one device's frames: genuine, of the right epoch, and new. MicroPython subset.

SPEC.md, "Tag and keys" and "Counters".
"""

import patrolink_messages as m

from .errors import RejectError
from .frame import DOWNLINK, UPLINK, Channel, parse_header
from .replay import ReplayWindow

EPOCH_MAX = (1 << 32) - 1


class Receiver:
    """Opens the frames of one device in one direction; knows the key epoch and the counters accepted in it.

    A host receives up: any order within the window. A device receives down: counters only grow, from `highest` on,
    which it stores before it acts. `channel` and `window` are those of the epoch in force.
    """

    def __init__(self, key, device_id, direction=UPLINK, epoch=0, highest=-1):
        self._key = key
        self._device_id = device_id
        self._direction = direction
        self.epoch = epoch
        self.channel = Channel(key, device_id, direction, epoch)
        self._next = None
        self.window = self._new_window(highest)

    def _new_window(self, highest=-1):
        return ReplayWindow(0 if self._direction == DOWNLINK else m.REPLAY_WINDOW, highest)

    def open(self, data):
        """Return (type, counter, body, extensions, repeated) of a genuine frame; raise RejectError otherwise.

        A frame in the other phase is tried under the next epoch's key; when it is genuine, that epoch has begun.
        `repeated` is True for a frame that was accepted before and that a host drops silently.
        """
        _, flags, _ = parse_header(data)
        if (1 if flags & m.FLAG_PHASE else 0) == self.channel.phase or self.epoch == EPOCH_MAX:
            kind, counter, body, extensions = self.channel.open_frame(data)
        else:
            if self._next is None:
                self._next = Channel(self._key, self._device_id, self._direction, self.epoch + 1)
            kind, counter, body, extensions = self._next.open_frame(data)
            self.epoch += 1
            self.channel = self._next
            self._next = None
            self.window = self._new_window()
        outcome = self.window.accept(counter)
        if outcome == ReplayWindow.OLD or outcome == ReplayWindow.SEEN and self._direction == DOWNLINK:
            raise RejectError("replay", str(counter))
        return kind, counter, body, extensions, outcome == ReplayWindow.SEEN
