"""The slots of a device as the running agent sees them."""

from patrolink_protocol.native import const

CONTENT_ID_BYTES = const(8)


class DeviceSlots:
    """What runs, and what may be installed.

    Args:
        area: agent.update.slots.UpdateArea.
        journal: agent.update.boot_journal.BootJournal.
        running: Number of the slot that runs, or None: the agent of the platform.
        platform: Number of the platform.
        make_installer: Function (journal, rollback floor of the hub) -> agent.update.installer.Installer.

    Attributes:
        area, journal, running, platform: As above.
    """

    def __init__(self, area, journal, running, platform, make_installer):
        self.area = area
        self.journal = journal
        self.running = running
        self.platform = platform
        self._make_installer = make_installer

    @property
    def content_id(self):
        """First bytes of SHA-256 of the content that runs from a slot; zeros for the agent of the platform."""
        header = None if self.running is None else self.area.header(self.running)
        return bytes(CONTENT_ID_BYTES) if header is None else header.sha256[:CONTENT_ID_BYTES]

    @property
    def rollback_floor(self):
        """Lowest rollback number that may be installed."""
        return self.journal.state.lowest_rollback()

    @property
    def last_install(self):
        """Highest install number so far."""
        return self.journal.state.last_install

    def is_confirmed(self):
        """Return whether the image that runs is confirmed."""
        return self.journal.state.slots[self.running].confirmed

    def has_failed(self, content_id, since):
        """Return whether content was installed after an install number, and its trial has failed."""
        for number, slot in enumerate(self.journal.state.slots):
            if slot.failed and slot.install > since:
                header = self.area.header(number)
                if header is not None and header.sha256[:CONTENT_ID_BYTES] == content_id:
                    return True
        return False

    def content(self, slot):
        """Return the SlotContent of the image in a slot."""
        return self.area.content(slot, self.area.header(slot).size)

    def make_installer(self, floor):
        """Return an Installer that also refuses images below a rollback floor of the hub."""
        return self._make_installer(self.journal, floor)
