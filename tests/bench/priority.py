"""Priority of the processes of a benchmark over other programs on the machine.

A benchmark measures delays of a few milliseconds. Another program on a core, such as a build, delays each wake-up by
that much. The measured processes and their load generators get a higher priority; among each other they keep theirs.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

import psutil

NICE = -15


@contextlib.contextmanager
def raised() -> Iterator[bool]:
    """Raise the priority of this process and of its later children. Yields False if that is not permitted."""
    before = os.getpriority(os.PRIO_PROCESS, 0), _session_nice("self")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except PermissionError:
        yield False
        return
    _set_session_nice("self", NICE)
    try:
        yield True
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before[0])
        _set_session_nice("self", before[1])


def raise_sessions(processes: Iterable[psutil.Process], steps: int = 0) -> None:
    """Give sessions the nice values of the processes that lead them, plus `steps`."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == process.pid:
                _set_session_nice(str(process.pid), os.getpriority(os.PRIO_PROCESS, process.pid) + steps)


# Linux divides CPU time among sessions (sched(7), "The autogroup feature"): nice values count inside a session only.


def _session_nice(process: str) -> int:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{process}/autogroup", encoding="ascii") as f:
        return int(f.read().rpartition(" ")[2])
    return 0


def _set_session_nice(process: str, nice: int) -> None:
    with contextlib.suppress(OSError), open(f"/proc/{process}/autogroup", "w", encoding="ascii") as f:
        f.write(str(max(-20, nice)))
