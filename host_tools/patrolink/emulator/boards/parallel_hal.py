"""Platforms of many simulated boards in one process: each agent runs in a greenlet of its own.

A wait of an agent gives control back to the scheduler, which resumes it when the time is over or an input arrives.
"""

from collections.abc import Callable

import greenlet

from patrolink.emulator.boards.virtual_hal import Reset, VirtualHal
from patrolink.emulator.scheduler import Scheduler

_FOREVER_MS = float("inf")


class ParallelHal(VirtualHal):
    """Platform of one of many boards.

    Args:
        scheduler: Virtual clock of all boards.
        seed: Seed of the board's random numbers.

    Attributes:
        write_ms: How long each write to storage takes.
    """

    IDLE_MS = 1000  # every input wakes the board, so it need not look for inputs
    SHORTEST_WAIT_MS = 200  # without an input: fewer rounds of the main loop

    def __init__(self, scheduler: Scheduler, seed: str) -> None:
        super().__init__(scheduler, seed)
        self._greenlet: greenlet.greenlet | None = None
        self._main: greenlet.greenlet | None = None  # runs the scheduler
        self._suspended = False
        self._waiting = False  # suspended until an input arrives
        self._deadline_ms = 0.0  # of the suspension in progress
        self._timer_ms = _FOREVER_MS  # due time of the earliest timer that is scheduled
        self.write_ms = 0.0
        self.flash.on_write = self._on_write

    def _on_write(self) -> None:
        if self.write_ms and self.dies is None:
            self._suspend(self.write_ms)

    def start(self, program: Callable[[], None]) -> None:
        """Run a program in a greenlet of this board."""
        self._suspended = self._waiting = self._woken = False
        self._main = greenlet.getcurrent()
        self._greenlet = greenlet.greenlet(program)
        self._greenlet.switch()

    def deliver_now(self, path: str, data: bytes) -> None:
        """Deliver bytes to a UART, and let the agent process them before this returns.

        For actions of the scheduler: an agent must not run inside of another one, or of the hub.
        """
        self._receive(path, data)
        if self._waiting:
            self._resume()

    def _wake(self) -> None:
        if self._waiting and not self._woken:
            self._woken = True
            self._scheduler.after(0, self._on_wake)

    def _on_wake(self) -> None:
        if self._waiting and self._woken:
            self._resume()

    def _on_timer(self) -> None:
        now = self._scheduler.now
        if now >= self._timer_ms:
            self._timer_ms = _FOREVER_MS
        if self._suspended:
            if now >= self._deadline_ms:
                self._resume()
            else:
                self._set_timer()

    def _set_timer(self) -> None:
        if self._deadline_ms < self._timer_ms:
            self._timer_ms = self._deadline_ms
            self._scheduler.at(self._timer_ms, self._on_timer)

    def _resume(self) -> None:
        self._suspended = self._waiting = self._woken = False
        if self._greenlet is not None:
            self._greenlet.switch()

    def end(self, cause: BaseException) -> None:
        """End this boot: `wait` raises the cause."""
        self.dies = cause
        self._wake()

    def pause(self, ms: float) -> None:
        """Wait without inputs and without the watchdog, while the board has no power."""
        self._suspend(ms)
        self.watchdog.fed_ms = self._scheduler.now

    def shortest_wait_ms(self) -> float:
        """Return the shortest wait without an input."""
        return self.SHORTEST_WAIT_MS

    def wait(self, ms: float) -> None:
        """Let the simulation go on for at most `ms`, or until an input wakes the board."""
        if self.dies is None:
            self._waiting = True
            self._suspend(max(ms, self.shortest_wait_ms()))
        if self._scheduler.now - self.watchdog.fed_ms > self.watchdog_ms:
            self.dies = Reset("watchdog")
        if self.dies is not None:
            raise self.dies

    def _suspend(self, ms: float) -> None:
        self._deadline_ms = self._scheduler.now + ms
        self._suspended = True
        self._set_timer()
        assert self._main is not None
        self._main.switch()
