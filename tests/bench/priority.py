"""Priority of the processes of a benchmark over other programs on the machine.

A benchmark measures delays of a few milliseconds. Another program on a core, such as a build, delays each wake-up by
that much. The measured processes and their load generators get a higher priority; among each other they keep theirs.
"""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator

import psutil

NICE = -15


@contextlib.contextmanager
def raised() -> Iterator[bool]:
    """Raise the priority of this process and of its later children. Yields False if that is not permitted.

    The process goes on as a child in a session of its own: other programs of the terminal keep their priority.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except PermissionError:
        yield False
        return
    _enter_own_session()
    _set_session_nice("self", NICE)
    try:
        yield True
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def _enter_own_session() -> None:
    child = os.fork()
    if not child:
        os.setsid()
        return
    try:
        _, status = os.waitpid(child, 0)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGINT)
        _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status))


def raise_sessions(processes: Iterable[psutil.Process], steps: int = 0) -> None:
    """Give sessions the nice values of the processes that lead them, plus `steps`."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == process.pid:
                _set_session_nice(str(process.pid), os.getpriority(os.PRIO_PROCESS, process.pid) + steps)


# Linux divides CPU time among sessions (sched(7), "The autogroup feature"): nice values count inside a session only.


def _set_session_nice(process: str, nice: int) -> None:
    with contextlib.suppress(OSError), open(f"/proc/{process}/autogroup", "w", encoding="ascii") as f:
        f.write(str(max(-20, nice)))
