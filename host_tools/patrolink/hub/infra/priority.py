"""Priority of the hub's processes among each other."""

import contextlib
import os


def set_below(pid: int, steps: int) -> None:
    """Give a process a nice value that many steps above the value of this process.

    It stays in the session of this process. Linux may divide CPU time among sessions before it looks at the nice values
    in each of them (sched(7), "The autogroup feature"): in a session of its own the process would lose against every
    other program on the machine, and in this one it loses against the other processes of the hub only.
    """
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + steps)
