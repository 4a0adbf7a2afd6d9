"""Removal of files that storage may refuse for a while, for example because it is full."""

from patrolink_protocol.native import const

_ENOENT = const(2)
_PENDING_MAX = const(32)


class Removal:
    """Removes files of one directory, and retries at the next removal those that storage refused to remove.

    What it cannot remember is found again after the next boot.

    Args:
        files: hal Files.
    """

    def __init__(self, files):
        self._files = files
        self._names = []

    def remove(self, name):
        """Remove a file now or later; return False for later."""
        if len(self._names) >= _PENDING_MAX:
            self._names.pop(0)
        self._names.append(name)
        return self.retry()

    def retry(self):
        """Remove what was refused before; return False when storage still refuses."""
        while self._names:
            try:
                self._files.remove(self._names[-1])
            except OSError as e:
                if not e.args or e.args[0] != _ENOENT:
                    return False
            self._names.pop()
        return True
