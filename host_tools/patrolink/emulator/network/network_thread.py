"""A thread that runs simulated time at the speed of the system clock and serves sockets in between."""

import contextlib
import selectors
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

from patrolink.emulator.scheduler import Scheduler

_Thread = TypeVar("_Thread", bound="NetworkThread")
_SLICE_S = 0.02  # maximum delay until an event scheduled by another thread is seen


class NetworkThread:
    """Runs a scheduler and a selector; subclasses add what is simulated, then call `start`.

    Attributes:
        selector: The `data` of each registered key is a function without arguments.
        scheduler: Simulated time in ms; equal to the monotonic clock.
    """

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.scheduler = Scheduler(self._now())
        self._lock = threading.Lock()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True, name=type(self).__name__)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @staticmethod
    def _now() -> float:
        return time.monotonic_ns() / 1e6

    def _run(self) -> None:
        while not self._stop:
            due = self.scheduler.next_time()
            wait = _SLICE_S if due is None else max(0.0, min(_SLICE_S, (due - self._now()) / 1000))
            for key, _ in self.selector.select(wait):
                with self._lock:
                    self.scheduler.run_until(self._now())
                    key.data()
            with self._lock:
                self.scheduler.run_until(self._now())
                self.on_slice()

    def on_slice(self) -> None:
        """Called at least every 20 ms."""

    @contextlib.contextmanager
    def locked(self: _Thread) -> Iterator[_Thread]:
        """Hold the thread while another thread changes what it simulates."""
        with self._lock:
            self.scheduler.run_until(self._now())
            yield self

    def stop(self) -> None:
        """End the thread and close the selector."""
        self._stop = True
        self._thread.join()
        self.selector.close()
