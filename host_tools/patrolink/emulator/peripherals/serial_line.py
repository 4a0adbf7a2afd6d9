"""A serial line whose far end is a device: a PTY under a name that nothing else will ever have."""

import os
import pty
import select
import tempfile
import tty
from pathlib import Path


class Line:
    """Open until `close`. The device opens `path`; this side reads and writes `master`, without blocking.

    The kernel gives a PTY's number to the next who asks. A device that waits for its line to come back would find a
    stranger's there, so it is told a link instead, which goes before the PTY does.

    held  False: this side sees whether the device has the line open (`in_use`), and what nobody reads is lost
    """

    def __init__(self, held: bool = True) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="patrolink-line-")
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = str(Path(self._folder.name) / "tty")
        os.symlink(os.ttyname(self.slave), self.path)
        self._held = held
        if not held:
            os.close(self.slave)
            self._poll = select.poll()
            self._poll.register(self.master, 0)

    def in_use(self) -> bool:
        """True while the device has the line open. For a line that is not held."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Take the line away, as when a cable is pulled. May be done twice."""
        if os.path.lexists(self.path):
            self._folder.cleanup()
            os.close(self.master)
            if self._held:
                os.close(self.slave)
