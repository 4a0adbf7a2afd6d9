"""Events in order of time. Whoever owns the clock, real or virtual, says how far it has come."""

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Scheduler:
    """`now` is in milliseconds. Events of the same time come in the order in which they were made."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Action) -> None:
        """Do it then; at once when that has passed."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), action))

    def after(self, delay_ms: float, action: Action) -> None:
        """Do it in so many milliseconds."""
        self.at(self.now + delay_ms, action)

    def next_time(self) -> float | None:
        """Return when the next event is due; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Go to the next event and do it."""
        self.now, _, action = heapq.heappop(self._heap)
        action()

    def run_until(self, when: float) -> None:
        """Do everything that is due by then."""
        while self._heap and self._heap[0][0] <= when:
            self.step()
        self.now = max(self.now, when)
