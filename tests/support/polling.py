"""Waiting for what other threads and processes do."""

import contextlib
import os
import time

PATIENCE_S = 60  # no claim of a test's: what two slow cores with six tests on them may take


def until(condition, why="", seconds: float = PATIENCE_S):
    """Return what `condition` gives once it is something; AssertionError with `why` (a text, or what gives it)."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, why() if callable(why) else why
        time.sleep(0.01)
    return found


def until_opened(path: str) -> None:
    """Wait until another thread of ours has opened the terminal that we have open, and has dropped what it held."""

    def opened() -> int:
        found = 0
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                found += os.readlink(f"/proc/self/fd/{fd}") == path
        return found

    until(lambda: opened() > 1)
    time.sleep(0.3)
