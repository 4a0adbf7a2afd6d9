"""What the shelf has to know after a power cut and no manifest says: the ring's files, what is at the hub.

    file    "state" and eight digits: JSON Lines, only ever appended to

A boot begins a new file with all that stands, and so does one that has become long; the old ones go once it is on
storage. What is in several is read in their order: the later line counts.
"""

from . import manifest

_LONG = 16384  # bytes after what stood at its begin


def is_journal(name):
    """Return whether a file is one of these."""
    return len(name) == 13 and name[:5] == "state" and manifest.number_in(name[5:]) >= 0


class Journal:
    """
    files     the contract of hal Files
    standing  function giving the lines of all that stands
    """

    def __init__(self, files, standing):
        self._files = files
        self._standing = standing
        self._old = sorted([name for name in files.names() if is_journal(name)])
        self._number = int(self._old[-1][5:]) if self._old else 0
        self._writer = None
        self.size = self._longest = 0

    def read(self):
        """Give what each line of an earlier boot says, oldest first."""
        for name in self._old:
            for _, said in manifest.lines(self._files, name):
                yield said

    def say(self, line):
        """Append a line. What storage refuses is said again in the next file."""
        if self._writer is None:
            self._begin()
        self._write(line)
        self._writer.sync()
        if self.size > self._longest:
            self._old.append(self._name())
            self._writer.close()
            self._begin()

    def _name(self):
        return "state%08d" % self._number

    def _begin(self):
        self._number += 1
        self.size = 0
        self._writer = self._files.open(self._name())
        for line in self._standing():
            self._write(line)
        self._writer.sync()
        self._longest = self.size + _LONG

    def _write(self, line):
        self._writer.write(line)
        self.size += len(line)

    def serve(self):
        """Let go of old files when the new one has all. Return False when storage refuses: call `again` later."""
        if self._writer is None:
            return True
        if self._writer.fault:
            return False
        if self._old and not self._writer.behind:
            for name in self._old:
                self._files.drop(name)
            self._old = []
        return True

    def again(self):
        """Begin a new file in the place of one that storage refused, if it did."""
        if self._writer is None or not self._writer.fault:
            return
        self._old.append(self._name())
        self._writer.close()
        self._begin()
