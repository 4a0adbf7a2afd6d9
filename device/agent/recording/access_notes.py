"""Access lines that wait for a clip: on storage, as many as there is room for, the others counted."""

from . import manifest

_FILE = "access"
_MOST = 8192


def is_notes(name):
    """Return whether a file is theirs."""
    return name == _FILE


class AccessNotes:
    """
    files  the contract of hal Files
    """

    def __init__(self, files):
        self._files = files
        self._writer = None
        self._size = 0
        self._others = 0

    def load(self):
        """Steps (compat.steps): take up what an earlier boot left. Raises OSError."""
        if _FILE in self._files.names():
            yield from manifest.mend(self._files, _FILE)
            self._size = self._files.size(_FILE)

    def put(self, line):
        """Keep a line; return the bytes that it takes."""
        if self._size + len(line) > _MOST:
            self._others += 1
            return 0
        if self._writer is None:
            self._writer = self._files.open(_FILE)
        self._writer.write(line)
        self._writer.sync()
        self._size += len(line)
        return len(line)

    def take(self):
        """Return the lines once they are at rest, else none; they stay until `drop`. Raises OSError."""
        if not self._size or (self._writer is not None and self._writer.behind):
            return []
        waiting = [line for line, _ in manifest.lines(self._files, _FILE)]
        if self._others:
            waiting.append(manifest.dump("access", "others", "who", "device", "time_ms", 0, "lines", self._others))
        return waiting

    def drop(self):
        """What `take` gave is in a manifest; return the bytes that are free again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._files.drop(_FILE)
        size, self._size, self._others = self._size, 0, 0
        return size
