"""Notes, warnings and errors for people, on standard error. The option -q switches notes off, and progress with them.

Results belong on standard output (`json_lines`), events of interest to an administrator into the log
(`logging.getLogger("patrolink...")`, shown by -v).
"""

import sys

from patrolink.core.text import printable_lines

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Switch the notes of this process off or on."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether notes are off."""
    return _quiet


def note(text: str) -> None:
    """Print what a person wants to know while a command runs; unprintable characters are escaped."""
    if not _quiet:
        _print(text)


def warn(text: str) -> None:
    """Print what a person has to act on, with -q too."""
    _print(f"warning: {text}")


def error(text: str) -> None:
    """Print why a command, or a part of it, failed."""
    _print(f"error: {text}")


def _print(text: str) -> None:
    if sys.stderr is not None:  # it is closed; `print` would write to standard output
        print(printable_lines(text), file=sys.stderr, flush=True)
