"""A patrol shift of real firmware in lock-step with its environment: hours pass in seconds, a seed repeats the trace.

Invariants: every fix sent while the board was on is delivered once, except those of the open batch at a power cut;
every SOS arrives; no reset but the planned ones; bounded heap and clock error.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from patrolink.core.boards import Board
from patrolink.core.decoder import Row
from patrolink.core.errors import DeviceError
from patrolink.core.text import plural
from patrolink.emulator.boards import qemu
from patrolink.emulator.boards.lockstep import Lockstep
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.peripherals import flash
from patrolink.emulator.scenarios.environment import DEVICE, HOST, HOUR_MS, Environment
from patrolink.emulator.scenarios.outcome import NO_FAULTS, Faults

_BYTE_MS = 10 * 1000 / 115200
_DRAIN_MS = 2 * HOUR_MS
_BATCH = 60
_HEAP_DRIFT_KB = 8
_HEAP_REPORTS = 3  # in which the free heap has to come back once
_CLOCK_MS = 2000
_PRESS_AGAIN_MS = 3000
_STORING_MS = 2000
_FIX_COUNTS = {
    "recorded": "fixes_sent",
    "delivered": "fixes_decoded",
    "lost": "fixes_lost",
    "duplicated": "fixes_duplicated",
}
_RESETS = 10  # more resets are a crash loop


@dataclass
class ShiftReport:
    """Results of a shift. Counters of the board (heap, flash, UARTs) are those since its last power-on."""

    board: str
    network: str
    seed: int
    hours: float
    modem: str
    heap_kb: int
    trace: str = ""
    recorded: int = 0
    delivered: int = 0
    fixes_in_memory_at_power_cuts: int = 0
    lost: int = 0
    duplicated: int = 0
    pressed: int = 0
    events: int = 0
    event_max_s: float | None = None
    power_cuts: int = 0
    resets: list[str] = field(default_factory=list)
    reconnects: int = 0
    outages: int = 0
    clock_error_max_ms: int = 0
    heap_peak_bytes: int = 0
    heap_free_kb: list[int] = field(default_factory=list)
    flash_bytes_per_fix: float | None = None
    uart_overruns: int = 0
    flash_violations: int = 0
    link_calls: int = 0
    problems: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Return the report as JSON-ready data. Counts of fixes have the names of `patrolink emulate` in real time."""
        free = self.heap_free_kb
        fields = {_FIX_COUNTS.get(name, name): value for name, value in asdict(self).items() if name != "problems"}
        return {**fields, "heap_free_kb": [min(free), max(free)] if free else None, "wrong": self.wrong}

    @property
    def wrong(self) -> list[str]:
        """Return a sentence for each violated invariant."""
        wrong = list(self.problems)
        if self.lost or self.duplicated:
            wrong.append(f"{plural(self.lost, 'fix')} lost, {self.duplicated} duplicated")
        if self.events < self.pressed:
            wrong.append(f"SOS was pressed {plural(self.pressed, 'time')} but {plural(self.events, 'event')} arrived")
        if self.resets:
            wrong.append(f"unplanned resets: {', '.join(self.resets)}")
        if self.uart_overruns:
            wrong.append(f"{plural(self.uart_overruns, 'byte')} lost on the UARTs")
        if self.flash_violations:
            wrong.append(f"flash was written without an erase {plural(self.flash_violations, 'time')}")
        free = self.heap_free_kb
        # The board reports without a collection: a single value contains garbage, a loss shows in all that follow.
        windows = (
            [max(free[i : i + _HEAP_REPORTS]) for i in range(max(1, len(free) - _HEAP_REPORTS + 1))] if free else []
        )
        if windows and min(windows) < free[0] - _HEAP_DRIFT_KB:
            wrong.append(f"free heap fell from {free[0]} to {min(windows)} KiB")
        if self.clock_error_max_ms > _CLOCK_MS:
            wrong.append(f"the clock was off by {self.clock_error_max_ms} ms")
        return wrong

    @property
    def clean(self) -> bool:
        """Return whether every invariant holds."""
        return not self.wrong


class Shift(Environment):
    """A simulated shift.

    Args:
        board: Board with an image.
        profile: Network conditions.
        seed: Seed of all randomness.
        dialect: Dialect of the modem.
        faults: Faults of the environment; a power cut comes at once or during a flash operation.
        name: Name of the network in the report.
        power_cuts_h: Hours of planned power cuts.
        sos_h: Hours at which SOS is pressed.
        heap_kb: Heap in KiB; None for the heap of the board.
        cut: Number of flash operations in the first life after which the power is cut; -1 for never.
        limit_s: Wall time of one life in seconds.
        settings: Configuration of the device in addition to that of the scenario.
    """

    def __init__(
        self,
        board: Board,
        profile: Profile,
        seed: int,
        dialect: str = "quectel",
        faults: Faults = NO_FAULTS,
        name: str = "",
        power_cuts_h: tuple[float, ...] = (),
        sos_h: tuple[float, ...] = (),
        heap_kb: int | None = None,
        cut: int = -1,
        limit_s: float = 600,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(profile, seed, dialect, name, None)
        assert board.image is not None and board.heap_kb is not None
        self._board = board
        self._stack = contextlib.ExitStack()
        self.work = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-shift-")))
        self.result = ShiftReport(board.name, name, seed, 0, dialect, heap_kb or board.heap_kb)
        device_config = {"device": DEVICE, "key": self.key.secret.hex(), "broker": {"host": HOST, "port": 1883}}
        device_config["modem"] = {"apn": "cmnet"}
        self.config = qemu.wired_config(board, {**device_config, **(settings or {})})
        self._chip = self.work / "flash.bin"
        self.console = bytearray()
        self.board_link = Lockstep(board, self.work, self.scheduler, limit_s)
        self.board_link.on_bytes = {
            qemu.CONSOLE_UART: self._on_console,
            qemu.MODEM_UART: self.modem.feed,
            qemu.PANEL_UART: self._on_pin,
        }
        self.board_link.on_boot = self._on_boot
        self.cut = cut
        self._spoken: set[int] = set()  # times of all epochs
        self._listened: list[int] = []  # times of the epochs that were sent while the board was on
        self._cut_at: list[int] = []  # number of those epochs at each power cut
        self._pressed_at = float("-inf")
        self._alive = False
        self._done = False
        self._summary: dict[str, Any] = {}
        self.on_message = self._check_message
        for hour in power_cuts_h:
            self.scheduler.at(hour * HOUR_MS, self.board_link.cut_power)
        for hour in sos_h:
            self.scheduler.at(hour * HOUR_MS, self.press_sos)
        self.schedule_faults(faults)

    # --- the board ---------------------------------------------------------------------------------------------------

    def from_modem(self, data: bytes) -> None:
        """See `Environment.from_modem`."""
        self.board_link.deliver(qemu.MODEM_UART, data)

    def from_gps(self, data: bytes) -> None:
        """Deliver each sentence when its last byte has passed the line."""
        spoken_at = self.unix_ms() // 1000 * 1000
        self._spoken.add(spoken_at)
        when = self.scheduler.now
        lines = data.splitlines(keepends=True)
        for line in lines:
            when += len(line) * _BYTE_MS
            self.scheduler.at(when, lambda line=line: self.board_link.deliver(qemu.GPS_UART, line))  # type: ignore[misc]
        self.scheduler.at(when, lambda: self._epoch_listened_to(spoken_at))

    def _epoch_listened_to(self, time_ms: int) -> None:
        if self._alive:
            self._listened.append(time_ms)

    def press_sos(self) -> None:
        """Press SOS, repeatedly while the board is off."""
        if not self._alive:
            self.scheduler.after(_PRESS_AGAIN_MS, self.press_sos)
            return
        self.result.pressed += 1
        self._pressed_at = self.scheduler.now
        super().press_sos()

    def press(self, button: str) -> None:
        """See `Environment.press`."""
        self.board_link.deliver(qemu.PANEL_UART, qemu.press_sequence(button))

    def schedule_faults(self, faults: Faults) -> None:
        """Leave out line damage: this board has no TLS, so a damaged byte on the modem's line can cost a frame."""
        super().schedule_faults(replace(faults, line_drop=0.0, line_damage=0.0))

    def cut_power(self) -> None:
        """Cut the power at the next instruction or during a flash operation of the next life."""
        if self.random.random() >= 0.5:
            self.cut = self.random.randrange(5, 400)
        self.board_link.cut_power()

    def _on_pin(self, data: bytes) -> None:
        for c in data:
            if c & 0x7F == qemu.PINS["reset"]:
                self.modem.set_reset(c >> 7)

    def _on_console(self, data: bytes) -> None:
        self.console += data
        *lines, rest = bytes(self.console).split(b"\n")
        del self.console[: len(self.console) - len(rest)]
        for raw in lines:
            line = raw.decode(errors="replace").rstrip()
            self.log_line(line)
            self.on_console_line(line)

    def on_console_line(self, line: str) -> None:
        """Process a line of the board's console."""
        if line.startswith("{"):
            self._summary = json.loads(line)
        elif line.startswith("device: ready"):  # its UARTs are open, or will be before the next epoch
            self._alive = True
        elif line.startswith("/config.json is missing"):
            raise DeviceError(f"seed {self.seed}: the board has lost its configuration:\n{self._tail()}")
        elif "Traceback" in line or "FAULT" in line or line.startswith(("error:", "MemoryError")):
            self.result.problems.append(line)

    def _on_boot(self, cause: str) -> None:
        self._alive = False
        self.log_line(f"-- boot after {cause} --")
        if cause != "power on":
            self.result.resets.append(cause)
            if len(self.result.resets) > _RESETS:
                raise DeviceError(
                    f"seed {self.seed}: the board is in a crash loop; the console ends with:\n" + self._tail()
                )

    def _tail(self) -> str:
        return "\n".join(list(self.log)[-12:])

    # --- counting ---------------------------------------------------------------------------------------------------

    def _check_message(self, message: Row) -> None:
        result = self.result
        if message["message"] == "device_status":
            if message["heap_free_kb"] is not None:
                result.heap_free_kb.append(message["heap_free_kb"])
        elif message["message"] == "event":
            result.events += 1
            if message["time_ms"] and self._pressed:
                pressed_ms = self.unix_ms() - int(self.scheduler.now - self._pressed[min(self._pressed)])
                result.clock_error_max_ms = max(result.clock_error_max_ms, abs(message["time_ms"] - pressed_ms))

    # --- a run ------------------------------------------------------------------------------------------------------

    def run(self, hours: float, on_hour: Callable[[int], None] | None = None) -> ShiftReport:
        """Patrol for a number of hours, wait for data in flight, and return the report."""
        result = self.result
        result.hours = hours
        self.begin(hours, on_hour)
        self.scheduler.at(self.receiver_until_ms + 2000, self._end_shift)
        flash.provision(self._chip, self._image.flash_kb, "/config.json", json.dumps(self.config).encode())
        try:
            while not self._done:
                self._life()
        finally:
            self._stack.close()
        return self._finish(hours)

    @property
    def _image(self) -> Any:
        return self._board.image

    def _life(self) -> None:
        straps = qemu.Straps(
            self.result.heap_kb, self._image.flash_kb, DEVICE, self.unix_ms() // 1000, self.seed, True, self.cut
        )
        self.cut = -1
        code = self.board_link.life(straps)
        self._alive = False
        if code == 0:
            self._done = True
            return
        self.result.power_cuts += 1
        self.log_line("-- power cut --")
        if self._pressed and self.scheduler.now - self._pressed_at < _STORING_MS:
            # The power cut may have come before the event was stored, so the wearer presses again.
            self.result.pressed -= 1
            self._pressed.pop(max(self._pressed))
            self.press_sos()
        self._cut_at.append(len(self._listened))
        self.scheduler.run_until(self.scheduler.now + self.random.uniform(1000, 60_000))
        self.modem.start()

    def _end_shift(self) -> None:
        self.network.restore_coverage()
        self._watch_the_end()

    def _watch_the_end(self) -> None:
        """Power off when the last fix is delivered; the agent drains the rest."""
        timed_out = self.scheduler.now > self.receiver_until_ms + _DRAIN_MS
        if timed_out:
            raise DeviceError(f"seed {self.seed}: the board did not power off; the console ends with:\n{self._tail()}")
        if self._alive and self.scheduler.now > self.receiver_until_ms + 90_000:
            self.press("off")
            self.scheduler.after(30_000, self._watch_the_end)
            return
        self.scheduler.after(1000, self._watch_the_end)

    def _finish(self, hours: float) -> ShiftReport:
        result, report = self.result, self.finish(hours)
        result.trace = self.board_link.trace
        result.link_calls = self.board_link.calls
        # The board opens its receiver before it says that it is ready: an epoch in between may arrive as well.
        result.recorded = len(self._spoken.intersection(self.fix_times).union(self._listened))
        missing = [i for i, t in enumerate(self._listened) if t not in self.fix_times]
        for end in self._cut_at:  # a power cut costs the open batch
            excused = [i for i in missing if end - _BATCH <= i < end]
            # They must be the last ones before the cut, without a gap: any other was stored, and is lost.
            if excused and excused == list(range(excused[0], end)):
                result.fixes_in_memory_at_power_cuts += len(excused)
                missing = [i for i in missing if i not in excused]
        result.lost = len(missing) + self._summary.get("left", 0)
        result.delivered = len(self.fix_times)
        result.duplicated = report.duplicated
        result.event_max_s = report.event_max_s
        result.outages = report.outages
        result.faults = report.faults
        result.reconnects = max(0, self._summary.get("connects", 1) - 1)
        counts = self._summary.get("board", {})
        result.heap_peak_bytes = counts.get("heap_peak", 0)
        result.uart_overruns = counts.get("overruns", 0)
        result.flash_violations = counts.get("violations", 0)
        if result.delivered and not result.power_cuts and not result.resets:
            result.flash_bytes_per_fix = round(counts.get("programs", 0) * 256 / result.delivered, 1)
        return result
