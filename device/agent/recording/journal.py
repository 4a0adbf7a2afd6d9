"""Journal of the clip store: state that has to survive a power cut and that no manifest holds.

It lists the files of the ring and the upload state of each clip. A journal file is named "state" and eight digits and
holds JSON Lines; it is only appended to. Each boot begins a new file with a snapshot of the whole state, and so does a
file that has grown too long. Older files are removed once the new one is on storage. When several exist they are read
in order, and the later line wins.
"""

from . import manifest
from .clip_files import parse_decimal

_GROWTH_MAX = 16384  # bytes appended after the snapshot


def is_journal(name):
    """Return whether a file is a journal."""
    return len(name) == 13 and name[:5] == "state" and parse_decimal(name[5:]) >= 0


class Journal:
    """Appends lines, and compacts them into a new file from time to time.

    Attributes:
        size: Bytes of the current file.

    Args:
        files: hal Files of the clips.
        snapshot: Function that yields the lines of the whole current state.

    Raises:
        OSError: The directory cannot be read.
    """

    def __init__(self, files, snapshot):
        self._files = files
        self._snapshot = snapshot
        self._old = sorted([name for name in files.names() if is_journal(name)])
        self._number = int(self._old[-1][5:]) if self._old else 0
        self._writer = None
        self.size = self._size_max = 0

    def read(self):
        """Yield the fields of each line of the previous boots, oldest first. Raises OSError."""
        for name in self._old:
            for line in manifest.read_lines(self._files, name):
                yield line.fields

    def append(self, line):
        """Append a line. A line that storage refuses is repeated in the snapshot of the next file."""
        if self._writer is None:
            self._begin()
        self._write(line)
        self._writer.sync()
        if self.size > self._size_max:
            self._replace()

    def _name(self):
        return "state%08d" % self._number

    def _begin(self):
        self._number += 1
        self.size = 0
        self._writer = self._files.open(self._name())
        for line in self._snapshot():
            self._write(line)
        self._writer.sync()
        self._size_max = self.size + _GROWTH_MAX

    def _replace(self):
        self._old.append(self._name())
        self._writer.close()
        self._begin()

    def _write(self, line):
        self._writer.write(line)
        self.size += len(line)

    def serve(self):
        """Remove the old files once the new one is on storage.

        Returns:
            False if storage refused a line: call `retry` later.
        """
        if self._writer is None:
            return True
        if self._writer.fault:
            return False
        if self._old and not self._writer.behind:
            for name in self._old:
                self._files.drop(name)
            self._old = []
        return True

    def retry(self):
        """Begin a new file if storage refused the current one."""
        if self._writer is not None and self._writer.fault:
            self._replace()
