"""Helpers for processes that tests start."""

import os
import signal
from pathlib import Path


def ignore_sigint() -> None:
    """Ignore SIGINT, as a non-interactive shell does for a background job. For use as `preexec_fn`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def restore_stop_signals() -> None:
    """Restore the default actions of SIGINT and SIGHUP. For use as `preexec_fn`.

    A process in the background or under nohup(1) inherits them as ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def descendants(pid: int) -> list[int]:
    """Return the process ids of the running descendants of a process."""
    parents: dict[int, list[int]] = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(number))
    result = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        result += children
        waiting += children
    return result
