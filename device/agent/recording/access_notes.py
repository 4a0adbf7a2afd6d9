"""Access lines that were recorded while no clip was open. They are kept on storage until the next clip takes them."""

from . import manifest

_FILE = "access"
_SIZE_MAX = 8192


def is_notes(name):
    """Return whether a file holds access notes."""
    return name == _FILE


class AccessNotes:
    """A bounded file of access lines. Lines that do not fit are counted.

    Args:
        files: hal Files of the clips.
    """

    def __init__(self, files):
        self._files = files
        self._writer = None
        self._size = 0
        self._dropped = 0

    def load(self):
        """Steps (compat.steps): read what the previous boot left. Raises OSError."""
        if _FILE in self._files.names():
            yield from manifest.remove_partial_line(self._files, _FILE)
            self._size = self._files.size(_FILE)

    def append(self, line):
        """Append a line, and return the bytes of storage it takes: 0 if it was dropped."""
        if self._size + len(line) > _SIZE_MAX:
            self._dropped += 1
            return 0
        if self._writer is None:
            self._writer = self._files.open(_FILE)
        self._writer.write(line)
        self._writer.sync()
        self._size += len(line)
        return len(line)

    def read(self):
        """Return all lines once they are on storage, else an empty list. They stay until `clear`. Raises OSError."""
        if not self._size or (self._writer is not None and self._writer.behind):
            return []
        lines = [line.raw for line in manifest.read_lines(self._files, _FILE)]
        if self._dropped:
            lines.append(
                manifest.encode_line("access", "others", "who", "device", "time_ms", 0, "lines", self._dropped)
            )
        return lines

    def clear(self):
        """Remove the file, and return the bytes of storage that are free again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._files.drop(_FILE)
        size, self._size, self._dropped = self._size, 0, 0
        return size
