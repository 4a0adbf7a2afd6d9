"""Wait for conditions that depend on other threads and processes."""

import contextlib
import os
import time
from pathlib import Path

TIMEOUT_S = 60  # not a requirement: the worst case on two slow cores with six tests in parallel
_INTERVAL_S = 0.01


def wait_until(condition, message="", seconds: float = TIMEOUT_S):
    """Poll until `condition()` is true and return its value.

    Args:
        condition: Function without arguments.
        message: Message of the failure, or a function that returns it.
        seconds: Timeout.

    Raises:
        AssertionError: The condition was not true in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, message() if callable(message) else message
        time.sleep(_INTERVAL_S)
    return value


def changing_files(folder: Path) -> list[Path]:
    """Return the files below a folder that another process changes.

    Path.glob fails if a folder disappears while it is read.
    """
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]


def wait_until_opened(path: str) -> None:
    """Wait until another thread of this process has opened a terminal that the test has already opened."""

    def is_opened() -> bool:
        count = 0
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed after the listing
                count += os.readlink(f"/proc/self/fd/{fd}") == path
        return count > 1

    wait_until(is_opened)
    time.sleep(0.3)  # the reader discards data that arrived before it opened the terminal
