"""The trial of the image that runs from a slot. Loaded only where one does."""

from agent.update.boot_journal import BootJournal
from agent.update.boot_records import SLOT_NAMES
from agent.update.trial import Trial
from patrolink_protocol import frame


class TrialRunner:
    """Tells the trial what happens, and writes its records.

    Args:
        journal: agent.update.boot_journal.BootJournal.
        trial: agent.update.trial.Trial.
        first_counter: Counter of the first frame that this boot seals: earlier frames prove nothing about this image.
        log: Function of one string.
    """

    def __init__(self, journal, trial, first_counter, log):
        self._journal = journal
        self._trial = trial
        self._first_counter = first_counter
        self._log = log
        self._settled = False

    def on_published(self, data):
        """Handle a frame that the broker has acknowledged."""
        if not self._settled and frame.parse_header(data)[2] >= self._first_counter:
            self._settled = self._carry_out(self._trial.acknowledged())

    def step(self, registered, now_ms):
        """Handle the passing of time; return whether the device is to restart into the previous image."""
        effect = self._trial.step(registered, now_ms)
        return self._carry_out(effect) and effect.restart

    def stopping(self):
        """Handle a planned power-off or restart."""
        self._carry_out(self._trial.stopping())

    def _carry_out(self, effect):
        """Append the records of an effect; return whether that succeeded."""
        try:
            for record in effect.records:
                self._journal.append(record)
        except OSError as e:
            self._log("update: boot records cannot be written (%s); trying again later" % e)
            return False
        return True


def build_trial(slot, hal, first_counter, now_ms, log):
    """Return the TrialRunner of the image in a slot.

    Args:
        slot: Number of the slot that runs.
        hal: The platform.
        first_counter: See TrialRunner.
        now_ms: Monotonic milliseconds.
        log: Function of one string.
    """
    journal = BootJournal(hal.open_flash())
    state = journal.state
    other = state.slots[1 - slot]
    has_fallback = other.install > 0 and not other.failed and (other.confirmed or other.rollback >= state.floor)
    if not state.slots[slot].confirmed:
        log("update: slot %s is on trial, attempt %d" % (SLOT_NAMES[slot], state.slots[slot].attempts))
    return TrialRunner(journal, Trial(state, slot, has_fallback, now_ms), first_counter, log)
