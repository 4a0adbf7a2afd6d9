"""A serial line whose far end is a device: a PTY under a name that nothing else will ever have."""

import os
import pty
import tempfile
import tty
from pathlib import Path


class Line:
    """Open until `close`. The device opens `path`; this side reads and writes `master`, without blocking.

    The kernel gives a PTY's number to the next who asks. A device that waits for its line to come back would find a
    stranger's there, so it is told a link instead, which goes before the PTY does.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="patrolink-line-")
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = str(Path(self._folder.name) / "tty")
        os.symlink(os.ttyname(self.slave), self.path)

    def close(self) -> None:
        """Take the line away, as when a cable is pulled. May be done twice."""
        if os.path.lexists(self.path):
            self._folder.cleanup()
            os.close(self.master)
            os.close(self.slave)
