"""Lines of progress, which a command prints on standard error every 10 s on a busy machine."""

import re

_LINE = re.compile(r"^[^\n]*: (?:\d+ %, )?(?:[\d.]+ (?:of [\d.]+ )?\w+, )?\d+ s\n", re.M)


def without_progress(text: str) -> str:
    """Return standard error of a command without lines of progress."""
    return _LINE.sub("", text)
