"""Platforms of many simulated boards in one process: each agent runs in a greenlet of its own.

A wait of an agent gives control back to the scheduler, which resumes it when the time is over or an input arrives.
"""

from collections.abc import Callable

import greenlet

from patrolink.emulator.boards.virtual_hal import Reset, VirtualHal
from patrolink.emulator.scheduler import Scheduler


class ParallelHal(VirtualHal):
    """Platform of one of many boards.

    Args:
        scheduler: Virtual clock of all boards.
        seed: Seed of the board's random numbers.

    Attributes:
        write_ms: How long each write to storage takes.
    """

    IDLE_MS = 1000  # every input wakes the board, so it need not look for inputs
    SHORTEST_WAIT_MS = 50  # without an input: fewer rounds of the main loop; sound is played in larger pieces

    def __init__(self, scheduler: Scheduler, seed: str) -> None:
        super().__init__(scheduler, seed)
        self._greenlet: greenlet.greenlet | None = None
        self._wait_number = 0  # of the wait in progress, or the last one
        self._waiting = False
        self.write_ms = 0.0
        self.flash.on_write = self._on_write

    def _on_write(self) -> None:
        if self.write_ms and self.dies is None:
            self._suspend(self.write_ms)

    def start(self, program: Callable[[], None]) -> None:
        """Run a program in a greenlet of this board."""
        self._greenlet = greenlet.greenlet(program)
        self._greenlet.switch()

    def _wake(self) -> None:
        super()._wake()
        if self._waiting:
            self._waiting = False
            number = self._wait_number
            self._scheduler.after(0, lambda: self._resume(number))

    def _resume(self, number: int) -> None:
        if number == self._wait_number and self._greenlet is not None:
            self._wait_number += 1
            self._waiting = False
            self._greenlet.switch()

    def end(self, cause: BaseException) -> None:
        """End this boot: `wait` raises the cause."""
        self.dies = cause
        self._wake()

    def pause(self, ms: float) -> None:
        """Wait without inputs and without the watchdog, while the board has no power."""
        self._suspend(ms)
        self._fed = self._scheduler.now

    def wait(self, ms: float) -> None:
        """Let the simulation go on for at most `ms`, or until an input wakes the board."""
        if self.dies is None:
            self._waiting = True
            self._suspend(max(ms, self.SHORTEST_WAIT_MS))
        if self._scheduler.now - self._fed > self.watchdog_ms:
            self.dies = Reset("watchdog")
        if self.dies is not None:
            raise self.dies

    def _suspend(self, ms: float) -> None:
        number = self._wait_number
        self._scheduler.after(ms, lambda: self._resume(number))
        main = greenlet.getcurrent().parent
        assert main is not None
        main.switch()
