"""Target of the serial receiver on a board with slots: an image goes into the slot that is not protected.

The present content is that of the image which the next start would take; during a transfer it is that of the slot
which is not written. So blocks that have not changed are copied on the board.
"""

from agent.update.installer import ImageRefusedError
from agent.update.selection import candidates
from agent.update.serial_receiver import FailedError, RefusedError
from compat.steps import run_to_completion


class SlotTarget:
    """Takes images for an installer.

    Args:
        area: UpdateArea.
        journal: BootJournal.
        installer: Installer with both.

    Attributes:
        present: ImageHeader of the present content, or None.
        source_bytes: Length of the present content; 0: there is none.
    """

    def __init__(self, area, journal, installer):
        self._area = area
        self._journal = journal
        self._installer = installer
        self._use_newest()

    def read_source(self, offset, buffer):
        """Fill a buffer from the present content."""
        self._area.flash.read_into(self._source_offset + offset, buffer)

    def begin(self, header_data):
        """Check an image and invalidate the slot that it is written to. Raises RefusedError: nothing was erased."""
        try:
            run_to_completion(self._installer.begin(header_data))
        except ImageRefusedError as e:
            raise RefusedError(str(e))
        self._use(1 - self._installer.slot)

    def block_digest(self, index):
        """Return the first 8 bytes of the SHA-256 of what lies at the place of a block."""
        self._check_block(index)
        return self._installer.block_digest(index)

    def write_block(self, index, data):
        """Write a block of the content."""
        self._check_block(index)
        if len(data) != self._installer.block_size(index):
            raise RefusedError("block %d of %d bytes does not fit the image" % (index, len(data)))
        self._installer.write_block(index, data)

    def finish(self):
        """Compare the content with its header, then install the image: the next start takes it."""
        if self._installer.header is None:
            raise RefusedError("no image has been accepted")
        try:
            run_to_completion(self._installer.finish())
        except ImageRefusedError as e:
            raise FailedError(str(e))
        self._use_newest()

    def _check_block(self, index):
        if self._installer.header is None:
            raise RefusedError("no image has been accepted")
        if index >= self._installer.blocks:
            raise RefusedError("the image has no block %d" % index)

    def _use_newest(self):
        """Take the newest image that may be started as the present content."""
        numbers = candidates(self._journal.state)
        self._use(numbers[0] if numbers else None)

    def _use(self, slot):
        self.present = None if slot is None else self._area.header(slot)
        self.source_bytes = self.present.size if self.present else 0
        self._source_offset = self._area.content_offset(slot) if self.present else 0
