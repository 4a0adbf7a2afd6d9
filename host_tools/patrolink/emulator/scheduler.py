"""Event queue ordered by time, for a real or a virtual clock that the caller owns."""

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Scheduler:
    """Runs actions in order of their due time.

    Actions that are due at the same time run in the order in which they were scheduled.

    Attributes:
        now: Current time in milliseconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Action) -> None:
        """Schedule an action for a time in milliseconds; a time in the past counts as now."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), action))

    def after(self, delay_ms: float, action: Action) -> None:
        """Schedule an action for a delay in milliseconds."""
        heapq.heappush(self._heap, (self.now + delay_ms if delay_ms > 0 else self.now, next(self._order), action))

    def next_time(self) -> float | None:
        """Return the due time of the next action in milliseconds, or None if the queue is empty."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Advance to the next action and run it."""
        self.now, _, action = heapq.heappop(self._heap)
        action()

    def run_until(self, when: float) -> None:
        """Run all actions that are due up to a time, then advance to that time."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= when:
            self.now, _, action = pop(heap)
            action()
        self.now = max(self.now, when)
