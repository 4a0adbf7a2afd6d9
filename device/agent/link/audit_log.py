"""What others made this device do: lines that are only appended, in two files of bounded size."""

_MOST = 16384  # bytes of a file; then it takes the place of the older one
_NEW, _OLD = "audit", "audit.old"


class AuditLog:
    """
    files  hal Files
    """

    def __init__(self, files):
        self._files = files

    def write(self, *words):
        """Append a line of words, tabs between them; False when storage refuses: then nothing is to be done."""
        line = "\t".join([_clean(word) for word in words]) + "\n"
        files = self._files
        try:
            names = files.names()
            if _NEW in names and files.size(_NEW) + len(line) > _MOST:
                if _OLD in names:
                    files.remove(_OLD)
                files.rename(_NEW, _OLD)
            files.append(_NEW, line.encode())
        except OSError:
            return False
        return True


def _clean(word):
    return "".join([c if c >= " " and c != "\x7f" else "?" for c in str(word)])
