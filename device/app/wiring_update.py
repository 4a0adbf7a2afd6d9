"""The trial of the image that runs from a slot. Loaded only where one does."""

from agent.update.boot_records import SLOT_NAMES
from agent.update.selection import candidates
from agent.update.trial import Trial
from patrolink_protocol import frame
from patrolink_protocol.native import const

_RETRY_MS = const(600_000)  # after boot records could not be written


class TrialRunner:
    """Tells the trial what happens, and writes its records.

    Args:
        journal: agent.update.boot_journal.BootJournal.
        trial: agent.update.trial.Trial.
        first_counter: Counter of the first frame that this boot seals: earlier frames prove nothing about this image.
        fallback_holds: Returns whether the other slot holds what the records tell; it reads the whole slot.
        log: Function of one string.
    """

    def __init__(self, journal, trial, first_counter, fallback_holds, log):
        self._journal = journal
        self._trial = trial
        self._first_counter = first_counter
        self._fallback_holds = fallback_holds
        self._log = log
        self._settled = False
        self._now_ms = 0
        self._retry_ms = None

    def on_published(self, data):
        """Handle a frame that the broker has acknowledged."""
        if not self._settled and frame.parse_header(data)[2] >= self._first_counter:
            self._settled = self._carry_out(self._trial.acknowledged())

    def step(self, registered, now_ms):
        """Handle the passing of time; return whether the device is to restart into the previous image."""
        self._now_ms = now_ms
        effect = self._trial.step(registered, now_ms)
        if effect.restart and not self._fallback_holds():
            self._log("update: no acknowledgement for this image, but the previous one is damaged; waiting")
            self._trial.fallback_lost()
            return False
        return self._carry_out(effect) and effect.restart

    def stopping(self):
        """Handle a planned power-off."""
        self._carry_out(self._trial.stopping())

    def _carry_out(self, effect):
        """Append the records of an effect; return whether that succeeded.

        After a failure it waits before the next attempt, because each one erases sectors.
        """
        if self._retry_ms is not None and self._now_ms < self._retry_ms:
            return False
        try:
            for record in effect.records:
                self._journal.append(record)
        except OSError as e:
            self._log("update: boot records cannot be written (%s); trying again later" % e)
            self._retry_ms = self._now_ms + _RETRY_MS
            return False
        self._retry_ms = None
        return True


def build_trial(slots, first_counter, now_ms, log):
    """Return the TrialRunner of the image that runs from a slot.

    Args:
        slots: agent.update.device_slots.DeviceSlots.
        first_counter: See TrialRunner.
        now_ms: Monotonic milliseconds.
        log: Function of one string.
    """
    state, running = slots.journal.state, slots.running
    other = 1 - running
    if not state.slots[running].confirmed:
        log("update: slot %s is on trial, attempt %d" % (SLOT_NAMES[running], state.slots[running].attempts))
    trial = Trial(state, running, other in candidates(state), now_ms)

    def fallback_holds():
        return slots.area.holds(other, state.slots[other].rollback, slots.platform)

    return TrialRunner(slots.journal, trial, first_counter, fallback_holds, log)
