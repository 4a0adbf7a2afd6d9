"""A serial line to a device: a PTY under a name that is never reused."""

import os
import pty
import select
import tempfile
import tty
from pathlib import Path


class Line:
    """A PTY, open until `close`. The device opens `path`; this side reads and writes `master` without blocking.

    The kernel reuses PTY numbers. A device that waits for its line to return would find another one under the
    number, so it gets the name of a symbolic link, which is removed before the PTY is closed.

    Args:
        held: Keep the device's side open. False: `in_use` tells whether the device has it open; unread data is lost.
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
        """Return whether the device has the line open (only if the line is not held)."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Remove the line, as when a cable is pulled; may be called twice."""
        if os.path.lexists(self.path):
            self._folder.cleanup()
            os.close(self.master)
            if self._held:
                os.close(self.slave)
