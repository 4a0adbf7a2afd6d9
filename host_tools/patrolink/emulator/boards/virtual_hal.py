"""HAL of a board on a virtual clock, for the agent inside a simulation.

Every wait of the agent advances the simulation to its next event. Storage is in memory and survives a reset; a power
cut can happen at any byte of a write.
"""

import io
import random
from collections.abc import Callable
from typing import Any

from patrolink.emulator.scheduler import Scheduler


class PowerCut(BaseException):
    """The power was cut. A BaseException, so that no handler of the agent catches it."""


class Reset(BaseException):
    """The board resets, at the agent's request or by the watchdog.

    Args:
        why: Cause of the reset.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Flash:
    """Storage of the board, shared by its `Store` and `Files` objects.

    Attributes:
        on_write: Called before each write.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.written = 0
        self.full_at: int | None = None
        self.cut_after: int | None = None  # bytes until the power is cut
        self.on_write: Callable[[], None] = lambda: None

    def spend(self, data: bytes | memoryview, replaced: int = 0) -> bytes:
        """Return the part of `data` that reaches the chip, in place of `replaced` bytes.

        Raises:
            OSError: ENOSPC, the chip is full.
        """
        self.on_write()
        grows = len(data) - replaced
        if self.full_at is not None and grows > 0 and sum(map(len, self.files.values())) + grows > self.full_at:
            raise OSError(28, "no space left")
        self.written += len(data)
        if self.cut_after is not None:
            if self.cut_after < len(data):
                return bytes(data[: self.cut_after])
            self.cut_after -= len(data)
        return bytes(data)

    def check(self, wrote: bytes, data: bytes | memoryview) -> None:
        """Raise PowerCut if the write was cut short."""
        if len(wrote) < len(data):
            self.cut_after = None
            raise PowerCut


class _Store:
    def __init__(self, flash: Flash, folder: str) -> None:
        self._flash, self._folder = flash, folder + "/"

    def read(self, name: str) -> bytes | None:
        data = self._flash.files.get(self._folder + name)
        return None if data is None else bytes(data)

    def write(self, name: str, data: bytes) -> None:
        wrote = self._flash.spend(data, len(self._flash.files.get(self._folder + name, b"")))
        self._flash.files[self._folder + name] = bytearray(wrote)
        self._flash.check(wrote, data)


class VirtualFiles:
    """Files of the HAL in one folder."""

    def __init__(self, flash: Flash, folder: str) -> None:
        self._flash, self._folder = flash, folder + "/"

    def _get(self, name: str) -> bytearray:
        try:
            return self._flash.files[self._folder + name]
        except KeyError:
            raise OSError(2, name) from None

    def names(self) -> list[str]:
        n = len(self._folder)
        return [name[n:] for name in self._flash.files if name.startswith(self._folder)]

    def size(self, name: str) -> int:
        return len(self._get(name))

    def append(self, name: str, data: bytes | memoryview) -> None:
        wrote = self._flash.spend(data)
        self._flash.files.setdefault(self._folder + name, bytearray()).extend(wrote)
        self._flash.check(wrote, data)

    def read(self, name: str, at: int, buf: memoryview) -> int:
        part = self._get(name)[at : at + len(buf)]
        buf[: len(part)] = part
        return len(part)

    def open_stream(self, name: str) -> io.BytesIO:
        return io.BytesIO(self._get(name))

    def remove(self, name: str) -> None:
        self._get(name)
        del self._flash.files[self._folder + name]

    def rename(self, old: str, new: str) -> None:
        self._flash.files[self._folder + new] = self._get(old)
        del self._flash.files[self._folder + old]


class Line:
    """Receiving side of one UART, and the callback for bytes that the device writes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.to_peer: Callable[[bytes], None] = lambda data: None


# One class for all boards, not one for each: Python's inline caches serve one class, or few.


class BoardClock:
    """Monotonic clock of a board.

    Attributes:
        boot_ms: Virtual time of the last boot.
        jump_ms: What the clock has jumped ahead.
    """

    __slots__ = ("_scheduler", "boot_ms", "jump_ms")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.boot_ms = self.jump_ms = 0.0

    def now_ms(self) -> int:
        return int(self._scheduler.now - self.boot_ms + self.jump_ms)


class VirtualUart:
    """Device's side of a UART."""

    __slots__ = ("_hal", "_line", "_received")

    def __init__(self, hal: "VirtualHal", line: Line) -> None:
        self._hal, self._line, self._received = hal, line, line.received

    def readinto(self, buf: bytearray) -> int:
        received = self._received
        if not received:
            return 0
        n = min(len(buf), len(received))
        buf[:n] = received[:n]
        del received[:n]
        return n

    def write(self, buf: bytes) -> None:
        self._line.to_peer(bytes(buf))

    def wait(self, ms: float) -> None:
        self._hal.wait(ms)


class VirtualButtons:
    """Buttons of a board."""

    __slots__ = ("_pressed",)

    def __init__(self, hal: "VirtualHal") -> None:
        self._pressed = hal.buttons

    def read(self) -> bytes | None:
        return self._pressed.pop(0) if self._pressed else None


class VirtualPin:
    """An output of a board."""

    __slots__ = ("_action", "_level")

    def __init__(self, action: Callable[[int], None]) -> None:
        self._action, self._level = action, 0

    def set(self, level: int) -> None:
        self._level = level
        self._action(level)

    def get(self) -> bool:
        return bool(self._level)


class VirtualWatchdog:
    """Watchdog of a board.

    Attributes:
        fed_ms: When it was fed last; infinity after it was closed.
    """

    __slots__ = ("_scheduler", "fed_ms")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self.fed_ms = scheduler, 0.0

    def feed(self) -> None:
        self.fed_ms = self._scheduler.now

    def close(self) -> None:
        self.fed_ms = float("inf")


class VirtualHal:
    """Platform of a simulated board; see device/hal/contract.md for the names that it provides.

    Args:
        scheduler: Virtual clock.
        seed: Seed of the board's random numbers.

    Attributes:
        lines: UARTs by path.
        clock, watchdog: Parts of the board.
    """

    FROZEN = False
    IDLE_MS = 200  # every input wakes the board

    def __init__(self, scheduler: Scheduler, seed: int | str) -> None:
        self._scheduler = scheduler
        self._random = random.Random(f"board {seed}")
        self.flash = Flash()
        self.lines: dict[str, Line] = {}
        self.buttons: list[bytes] = []
        self.pins: dict[str, Callable[[int], None]] = {}
        self.dies: BaseException | None = None
        self._woken = False
        self.clock = BoardClock(scheduler)
        self.watchdog = VirtualWatchdog(scheduler)
        self.watchdog_ms = 60_000.0

    def boot(self) -> None:
        """Power on: restart the monotonic clock and clear UARTs and buttons."""
        self.clock.boot_ms = self.watchdog.fed_ms = self._scheduler.now
        self.dies = None
        self.flash.cut_after = None
        for line in self.lines.values():
            line.received.clear()
        self.buttons.clear()

    def deliver(self, path: str, data: bytes) -> None:
        """Deliver bytes to a UART."""
        self._receive(path, data)
        self._wake()

    def _receive(self, path: str, data: bytes) -> None:
        line = self.lines[path]
        line.received += data
        del line.received[:-8192]

    def press(self, button: bytes) -> None:
        """Press a button."""
        self.buttons.append(button)
        self._wake()

    def _wake(self) -> None:
        self._woken = True

    def wait(self, ms: float) -> None:
        """Advance the simulation by at most `ms`, or until an input wakes the board."""
        scheduler = self._scheduler
        deadline = scheduler.now + ms
        self._woken = False
        while not self._woken and self.dies is None:
            due = scheduler.next_time()
            if due is None or due > deadline:
                scheduler.now = deadline
                break
            scheduler.step()
        if scheduler.now - self.watchdog.fed_ms > self.watchdog_ms:
            self.dies = Reset("watchdog")
        if self.dies is not None:
            raise self.dies

    # --- names of the HAL contract ---

    def Clock(self) -> BoardClock:
        return self.clock

    def Inputs(self) -> Any:
        return self

    def Uart(self, path: str, now_ms: object, log: object, name: str, inputs: object) -> VirtualUart:
        return VirtualUart(self, self.lines[path])

    def Buttons(self, inputs: object, pins: object) -> VirtualButtons:
        return VirtualButtons(self)

    def Pin(self, path: str) -> VirtualPin:
        return VirtualPin(self.pins[path])

    def Watchdog(self, path: object) -> VirtualWatchdog:
        return self.watchdog

    def Store(self, folder: str) -> _Store:
        return _Store(self.flash, folder)

    def Files(self, folder: str) -> VirtualFiles:
        return VirtualFiles(self.flash, folder)

    def randbelow(self, n: int) -> int:
        return self._random.randrange(n)

    def board_counters(self) -> None:
        return None

    def battery(self) -> int:
        return -(1 << 30)

    def runtime(self) -> str:
        return "cpython on a virtual clock"

    def reset(self) -> None:
        raise Reset("requested by the agent")
