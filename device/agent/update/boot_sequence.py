"""Start of a device: select a slot, and write what must be known before the slot is started."""

from agent.update import selection
from agent.update.trial import Trial


class BootSequence:
    """Decides which slot is started.

    Args:
        area: UpdateArea.
        journal: BootJournal.
        platform: Number of the platform: an image that needs a higher one is not started.
    """

    def __init__(self, area, journal, platform):
        self._area = area
        self._journal = journal
        self._platform = platform
        self._unusable = []

    def select(self, power_on):
        """Return the selection.Selection of this start, after its records have been written.

        An image on trial whose mark cannot be written is not started: nothing would end its trial.
        """
        while True:
            decision = selection.select(self._journal.state, self.holds, power_on)
            try:
                for record in decision.records:
                    self._journal.append(record)
            except OSError:
                slots = self._journal.state.slots
                if decision.slot is not None and not slots[decision.slot].confirmed:
                    self._unusable.append(decision.slot)
                    continue
            return decision

    def holds(self, slot):
        """Return whether a slot holds the image that the records tell of, with intact content."""
        if slot in self._unusable:
            return False
        return self._area.holds(slot, self._journal.state.slots[slot].rollback, self._platform)


def withdraw_attempt(journal, slot):
    """Note that the start of a slot has ended without a fault of its image: it costs no attempt. Raises OSError."""
    for record in Trial(journal.state, slot, False, 0).stopping().records:
        journal.append(record)
