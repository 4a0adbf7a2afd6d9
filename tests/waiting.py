"""Waiting for what other threads and processes do."""

import time

PATIENCE_S = 60  # no claim of a test's: what two slow cores with six tests on them may take


def until(condition, why="", seconds: float = PATIENCE_S):
    """Return what `condition` gives once it is something; AssertionError with `why` (a text, or what gives it)."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, why() if callable(why) else why
        time.sleep(0.01)
    return found
