"""Priority of the hub's processes among each other, and of the hub among other programs."""

import contextlib
import os
from pathlib import Path


def set_below(pid: int, steps: int) -> None:
    """Give a process, which leads a session, a nice value that many steps above the value of this process.

    Linux may divide CPU time among sessions before it looks at the nice values in each of them (sched(7), "The
    autogroup feature"). The session therefore gets the same nice value.
    """
    with contextlib.suppress(ProcessLookupError):  # it has ended
        nice = os.getpriority(os.PRIO_PROCESS, 0) + steps
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        with contextlib.suppress(OSError):  # not Linux, without autogroups, or no permission for a negative value
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
