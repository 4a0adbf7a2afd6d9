"""What differs on POSIX systems: pseudo-terminals, file locks, permission bits, users."""

import getpass
import importlib.util
import os
import stat
from pathlib import Path

from patrolink.core import notes
from patrolink.core.errors import UserError


def require_posix(verb: str) -> None:
    """Raise UserError if this system has neither pseudo-terminals nor file locks.

    Args:
        verb: The verb that needs them, for the message.
    """
    if any(importlib.util.find_spec(module) is None for module in ("fcntl", "termios")):
        raise UserError(
            f"`patrolink {verb}` needs a POSIX system (pseudo-terminals, file locks); run it on Linux, macOS or WSL"
        )


def user_name() -> str | None:
    """Return the name of who runs this; None if the user has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return None


def readable_by_others(mode: int) -> bool:
    """Return whether the permission bits of a file let others read or change it.

    Args:
        mode: Its `st_mode`. Systems without user ids set the bits of others on every file; they are ignored there.
    """
    return hasattr(os, "getuid") and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def warn_readable_by_others(path: Path, mode: int) -> None:
    """Print a warning if others can read a secret file with this `st_mode`."""
    if readable_by_others(mode):
        notes.warn(f"{path} can be read by others; run `chmod 600 {path}`")
