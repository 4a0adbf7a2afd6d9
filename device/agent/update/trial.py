"""Trial of the running image: when it is confirmed, when it has failed, and when a start has ended well.

Pure: each event returns an Effect, which the caller carries out. An event may come again if that did not succeed.
"""

from collections import namedtuple

from agent.update.boot_records import ATTEMPT, CONFIRMED, FAILED
from patrolink_protocol.native import const

ACKNOWLEDGE_MS = const(900_000)  # from registration to the first acknowledgement, at most
STABLE_MS = const(600_000)  # a confirmed image that has run so long has started well, also without coverage

# `records` are to be appended in this order; `restart`: then the device is to restart, into the previous image.
Effect = namedtuple("Effect", ("records", "restart"))
NOTHING = Effect((), False)


class Trial:
    """Decides on the image that runs now.

    Args:
        state: BootState of the journal; it changes when the caller appends the records.
        slot: Number of the slot that runs.
        has_fallback: Whether there is another image to return to. If not, the trial waits.
        now_ms: Time of the start.
    """

    def __init__(self, state, slot, has_fallback, now_ms):
        self._state = state
        self._slot = slot
        self._has_fallback = has_fallback
        self._start_ms = now_ms
        self._registered_ms = None

    def fallback_lost(self):
        """The other image cannot be started: the trial waits."""
        self._has_fallback = False

    def acknowledged(self):
        """Handle a PUBACK for a frame that this image has made. Confirmation comes before the rollback floor."""
        state = self._state
        slot = state.slots[self._slot]
        if slot.confirmed and not slot.attempts and slot.rollback <= state.floor:
            return NOTHING
        records = []
        if not slot.confirmed:
            records.append(state.slot_record(CONFIRMED, self._slot))
        elif slot.attempts:
            records.append(state.slot_record(ATTEMPT, self._slot))
        if slot.rollback > state.floor:
            records.append(state.floor_record(slot.rollback))
        return Effect(records, False)

    def step(self, registered, now_ms):
        """Handle the passing of time.

        Args:
            registered: Whether the modem is registered, or a network is connected. Without, the trial waits.
            now_ms: Time.
        """
        slot = self._state.slots[self._slot]
        if slot.confirmed:
            if slot.attempts and now_ms - self._start_ms >= STABLE_MS:
                return Effect([self._state.slot_record(ATTEMPT, self._slot)], False)
            return NOTHING
        if not registered:
            self._registered_ms = None
        elif self._registered_ms is None:
            self._registered_ms = now_ms
        elif self._has_fallback and now_ms - self._registered_ms >= ACKNOWLEDGE_MS:
            return Effect([self._state.slot_record(FAILED, self._slot)], True)
        return NOTHING

    def stopping(self):
        """Handle a planned power-off or restart: it costs no attempt."""
        attempts = self._state.slots[self._slot].attempts
        if not attempts:
            return NOTHING
        return Effect([self._state.slot_record(ATTEMPT, self._slot, attempts - 1)], False)
