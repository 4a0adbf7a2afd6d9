"""Finds the shortest run of a seed that still shows a violation."""

from collections.abc import Callable


def shortest_prefix_min(fails: Callable[[int], bool], minutes: int) -> int:
    """Return the shortest duration that fails, by bisection.

    Events do not depend on the duration of a run, so a run that contains the cause fails, apart from violations that a
    longer run repairs or hides.

    Args:
        fails: Runs the seed for a number of minutes and returns whether it shows a violation.
        minutes: A duration that fails.
    """
    low, high = 0, minutes
    while high - low > 1:
        middle = (low + high) // 2
        if fails(middle):
            high = middle
        else:
            low = middle
    return high
