"""What only POSIX systems have: pseudo-terminals, file locks, permission bits. Windows has none of them."""

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


def warn_readable_by_others(path: Path, mode: int) -> None:
    """Print a warning if the permission bits of a secret file let others read it.

    Args:
        path: The file.
        mode: Its `st_mode`. Systems without user ids set the bits of others on every file; they are ignored there.
    """
    if hasattr(os, "getuid") and mode & (stat.S_IRWXG | stat.S_IRWXO):
        notes.warn(f"{path} can be read by others; run `chmod 600 {path}`")
