"""The audit log of commands: lines appended to two files of bounded size."""

_FILE_MAX_BYTES = 16384  # a full file replaces the older one
_CURRENT, _PREVIOUS = "audit", "audit.old"


class AuditLog:
    """An append-only log.

    Args:
        files: hal Files of its directory.
    """

    def __init__(self, files):
        self._files = files

    def append(self, *fields):
        """Append one line of fields, separated by tabs. Returns False when storage fails: the command must not run."""
        line = "\t".join([_printable(field) for field in fields]) + "\n"
        files = self._files
        try:
            names = files.names()
            if _CURRENT in names and files.size(_CURRENT) + len(line) > _FILE_MAX_BYTES:
                if _PREVIOUS in names:
                    files.remove(_PREVIOUS)
                files.rename(_CURRENT, _PREVIOUS)
            files.append(_CURRENT, line.encode())
        except OSError:
            return False
        return True


def _printable(field):
    return "".join([c if c >= " " and c != "\x7f" else "?" for c in str(field)])
