"""Finds the shortest run of a seed that still shows a violation."""

import math
from collections.abc import Callable


def shortest_prefix_min(fails: Callable[[int], bool], minutes: float, shown_min: float) -> int:
    """Return the shortest duration that was found to fail.

    Events do not depend on the duration of a run, so a run that contains the cause fails, apart from violations that a
    longer run repairs or hides. What shows while events happen shows in a run up to it, so no search is needed. What
    shows at the end is searched by bisection, in runs that last no longer than the given one, all together.

    Args:
        fails: Runs the seed for a number of minutes and returns whether it shows a violation.
        minutes: A duration that fails.
        shown_min: When the first violation showed in that run.
    """
    if shown_min <= minutes:
        return max(1, math.ceil(shown_min))
    low, high, left = 0, math.ceil(minutes), minutes
    while high - low > 1 and (low + high) // 2 <= left:
        middle = (low + high) // 2
        left -= middle
        if fails(middle):
            high = middle
        else:
            low = middle
    return high
