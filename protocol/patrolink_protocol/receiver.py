"""Receiver of one device's frames: checks tag, key epoch and counter. MicroPython subset.

SPEC.md, "Tag and keys" and "Counters".
"""

import patrolink_messages as m

from .errors import RejectError
from .frame import DOWNLINK, UPLINK, Channel, parse_header
from .replay import ReplayWindow

EPOCH_MAX = (1 << 32) - 1


class Receiver:
    """Opens the frames of one device in one direction; keeps the key epoch and the counters accepted in it.

    A host receives UPLINK: counters in any order within the window. A device receives DOWNLINK: counters only
    increase, starting from `highest`, which the device stores before it acts on a frame.

    Args:
        key: Device key, 32 bytes.
        device_id: 1 to 32 bytes.
        direction: UPLINK or DOWNLINK.
        epoch: Current key epoch.
        highest: Highest counter accepted so far; -1 for none.
        window: ReplayWindow of the current epoch; None for a new one, above `highest`.

    Attributes:
        epoch: Current key epoch.
        channel: Channel of the current epoch.
        window: ReplayWindow of the current epoch.
    """

    def __init__(self, key, device_id, direction=UPLINK, epoch=0, highest=-1, window=None):
        self._key = key
        self._device_id = device_id
        self._direction = direction
        self.epoch = epoch
        self.channel = Channel(key, device_id, direction, epoch)
        self._next_channel = None
        self.window = window or self._new_window(highest)

    def _new_window(self, highest=-1):
        return ReplayWindow(0 if self._direction == DOWNLINK else m.REPLAY_WINDOW, highest)

    def accept(self, data):
        """Verify a frame, take its counter, and return (type, counter, repeated). `read` returns the rest.

        A frame of the other phase is verified with the key of the next epoch; if it is authentic, that epoch begins.
        `repeated` is True for a frame that was accepted before; a host drops it silently. The counter is taken even if
        `read` or the decoder of the body refuses the frame later: a refused frame cannot be replayed.

        Raises:
            RejectError: the frame is refused. Only one refused with "replay" is authentic.
        """
        _, flags, _ = parse_header(data)
        if (1 if flags & m.FLAG_PHASE else 0) == self.channel.phase or self.epoch == EPOCH_MAX:
            kind, counter = self.channel.authenticate(data)
        else:
            if self._next_channel is None:
                self._next_channel = Channel(self._key, self._device_id, self._direction, self.epoch + 1)
            kind, counter = self._next_channel.authenticate(data)
            self.epoch += 1
            self.channel = self._next_channel
            self._next_channel = None
            self.window = self._new_window()
        outcome = self.window.accept(counter)
        if outcome == ReplayWindow.OLD or outcome == ReplayWindow.REPEATED and self._direction == DOWNLINK:
            raise RejectError("replay", str(counter))
        return kind, counter, outcome == ReplayWindow.REPEATED

    def read(self, data):
        """Return (body, extensions) of the frame that `accept` returned last; see `Channel.read`.

        Raises:
            RejectError: the frame is refused. It is authentic.
        """
        return self.channel.read(data)
