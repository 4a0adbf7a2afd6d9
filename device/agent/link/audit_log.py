"""The audit logs of commands: lines appended to two files of bounded size each."""


class AuditLog:
    """An append-only log. A full file replaces the older one.

    Args:
        files: hal Files of its directory.
        name: Name of the newer file; the older one has ".old" appended.
        file_max: Bytes of a file.
    """

    def __init__(self, files, name, file_max):
        self._files = files
        self._current = name
        self._previous = name + ".old"
        self._file_max = file_max

    def append(self, *fields):
        """Append one line of fields, separated by tabs. Returns False when storage fails: the command must not run."""
        line = "\t".join([_printable(field) for field in fields]) + "\n"
        files = self._files
        try:
            names = files.names()
            if self._current in names and files.size(self._current) + len(line) > self._file_max:
                if self._previous in names:
                    files.remove(self._previous)
                files.rename(self._current, self._previous)
            files.append(self._current, line.encode())
        except OSError:
            return False
        return True


def _printable(field):
    return "".join([c if c >= " " and c != "\x7f" else "?" for c in str(field)])
