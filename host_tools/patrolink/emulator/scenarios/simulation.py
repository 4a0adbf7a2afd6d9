"""A device as a process on a virtual clock in its environment: hours pass in seconds, and a seed repeats a run.

A frame counts as recorded when the agent's storage has accepted it.
"""

import functools
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink_protocol import decode

from patrolink.emulator.boards import agent_loader
from patrolink.emulator.boards.virtual_hal import Line, PowerCut, Reset, VirtualHal
from patrolink.emulator.footprint import footprint
from patrolink.emulator.network import certificates
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.scenarios.environment import DEVICE, HOST, HOUR_MS, Environment
from patrolink.emulator.scenarios.outcome import NO_FAULTS, Faults, Report

_DRAIN_MS = 2 * HOUR_MS
_SAMPLE_MS = HOUR_MS / 2


class _Authority:
    """Certificates of the broker, in a folder that exists as long as this object."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="patrolink-sim-")
        self.certificates = certificates.make(Path(self._folder.name), HOST)


@functools.cache
def _authority() -> _Authority:
    """Return the authority of this process: its keys take longer to create than minutes to simulate."""
    return _Authority()


class Simulation(Environment):
    """A simulated device.

    Before `run`, schedule further events with `scheduler`, `network`, `modem`, `broker` and `hal`.

    Args:
        profile: Network conditions.
        seed: Seed of all randomness.
        dialect: Dialect of the modem.
        faults: Faults of the environment and the board.
        tls: MQTT over TLS, verified; without it a damaged byte on the modem's line can cost a frame.
        settings: Configuration of the device in addition to that of the scenario.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        dialect: str = "quectel",
        faults: Faults = NO_FAULTS,
        tls: bool = True,
        settings: dict[str, Any] | None = None,
        name: str = "",
    ) -> None:
        context: ssl.SSLContext | None = None
        trusted: Path | None = None
        if tls:
            files = _authority().certificates
            context, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files.ca
            context.load_cert_chain(files.cert)
        super().__init__(profile, seed, dialect, name, context)
        self.hal = VirtualHal(self.scheduler, seed)
        self.hal.lines = {"gps": Line(), "modem": Line()}
        self.hal.lines["modem"].to_peer = self.modem.feed
        self.hal.pins["reset"] = self.modem.set_reset
        self.program, config = agent_loader.load()
        self.config = {
            **config.DEFAULTS,
            "device": DEVICE,
            "key": self.key.secret,
            "broker": {"host": HOST, "port": 8883, **({"tls": {"ca": str(trusted)}} if trusted else {})},
            "gps_uart": "gps",
            "state_dir": "state",
            "modem": {"uart": "modem", "apn": "cmnet", "reset_pin": "reset"},
            **(settings or {}),
        }
        self.device: Any = None
        self._booted: Any = None  # the agent, also while it is being built
        self._recorded: set[int] = set()
        self._done = False
        self.schedule_faults(faults)

    def from_modem(self, data: bytes) -> None:
        """See `Environment.from_modem`."""
        self.hal.deliver("modem", data)

    def from_gps(self, data: bytes) -> None:
        """See `Environment.from_gps`."""
        self.hal.deliver("gps", data)

    def press(self, button: str) -> None:
        """See `Environment.press`."""
        self.hal.press(button.encode())

    def schedule_faults(self, faults: Faults) -> None:
        """Add the faults of this kind of board to those of the environment."""
        super().schedule_faults(faults)
        after, hal, rng = self.scheduler.after, self.hal, self.random

        def fill() -> None:
            hal.flash.full_at = sum(map(len, hal.flash.files.values())) + rng.randrange(200)
            after(rng.uniform(10_000, 90_000), lambda: setattr(hal.flash, "full_at", None))

        def jump() -> None:
            hal.clock.jump_ms += rng.uniform(1000, 40_000)

        self.every("disk_full", faults.disk_full_h, fill)
        self.every("clock_jump", faults.clock_jump_h, jump)

    def cut_power(self) -> None:
        """Cut the power now or during a write within the next minute."""
        if self.random.random() < 0.5:
            self.hal.dies = PowerCut()
            return
        self.hal.flash.cut_after = self.random.randrange(300)
        self.scheduler.after(60_000, lambda: self._cut_at_last(self.report.power_cuts))

    def _cut_at_last(self, cuts: int) -> None:
        if self.report.power_cuts == cuts:
            self.hal.dies = PowerCut()

    # --- counting ---------------------------------------------------------------------------------------------------

    def _watch(self, device: Any) -> None:
        """Record what the device's storage accepts from now on."""
        put, keep = device.outbox.put, device.event_queue.put

        def put_recorded(data: memoryview) -> bool:
            accepted: bool = put(data)
            if accepted:
                self._record(bytes(data))
            else:
                self.report.refused_by_storage += 1
            return accepted

        def keep_recorded(data: memoryview, event_id: int) -> bool:
            accepted: bool = keep(data, event_id)
            if accepted:
                self._record(bytes(data))
            return accepted

        device.outbox.put, device.event_queue.put = put_recorded, keep_recorded

    def _record(self, data: bytes) -> None:
        kind, counter, body, _ = self.hub.channel.open_frame(data)
        message = decode.decode(kind, body)
        self._recorded.add(counter)
        if message["message"] == "event":
            self.report.events += 1

    def _sample(self) -> None:
        """Sample the memory of the agent's objects."""
        size = footprint(self.device, "patrolink.")
        report = self.report
        report.agent_min_bytes = min(report.agent_min_bytes or size, size)
        report.agent_max_bytes = max(report.agent_max_bytes, size)
        if self.scheduler.now < self.receiver_until_ms:
            self.scheduler.after(_SAMPLE_MS, self._sample)

    # --- a run ------------------------------------------------------------------------------------------------------

    def run(self, hours: float, on_hour: Callable[[int], None] | None = None) -> Report:
        """Patrol for a number of hours, wait for data in flight, and return the report."""
        self.begin(hours, on_hour)
        self.scheduler.after(_SAMPLE_MS, self._sample)
        self.scheduler.at(self.receiver_until_ms + 2000, self._end_shift)
        while not self._done:
            self._life()
        return self._finish(hours)

    def _end_shift(self) -> None:
        self.network.restore_coverage()
        self._watch_the_end()

    def _watch_the_end(self) -> None:
        """Power off when nothing is queued, or after a time limit."""
        if self.device is not None:
            waiting = len(self.device.outbox) + len(self.device.event_queue)
            if not waiting or self.scheduler.now > self.receiver_until_ms + _DRAIN_MS:
                self.press("off")
                return
        self.scheduler.after(500, self._watch_the_end)

    def _life(self) -> None:
        """Run from power-on to whatever ends this life."""
        self.hal.boot()
        try:
            # It may thin frames, and lose power, before its constructor has ended.
            self._booted = self.program.Device.__new__(self.program.Device)
            self._booted.__init__(self.config, self.hal, self.log_line)
            self.device = self._booted
            self._watch(self.device)
            # The hello was sent during construction.
            self.device.run()
            self._done = True
        except PowerCut:
            self.report.power_cuts += 1
            self.log_line("-- power cut --")
            self.report.fixes_in_memory_at_power_cuts += self._in_memory()
            self._count()
            self.scheduler.run_until(self.scheduler.now + self.random.uniform(1000, 60_000))
            self.modem.start()
        except Reset as e:
            self.log_line(f"-- reset: {e.why} --")
            if e.why == "watchdog":
                self.report.watchdog_resets += 1
            else:
                self.report.board_resets += 1
            self._count()

    def _in_memory(self) -> int:
        return self.device.reporter.open_rows() if self.device is not None else 0

    def _count(self) -> None:
        if self.device is not None:
            self.report.reconnects += max(0, self.device.session.connects - 1)
        outbox = getattr(self._booted, "outbox", None)
        self.report.thinned += outbox.thinned if outbox is not None else 0
        self.device = self._booted = None

    def _finish(self, hours: float) -> Report:
        report = self.report
        report.waiting = len(self.device.outbox) + len(self.device.event_queue)
        self._count()
        self.finish(hours)
        report.recorded = len(self._recorded)
        missing = self._recorded - self.delivered
        report.delivered = len(self._recorded) - len(missing)
        report.lost = max(0, len(missing) - report.thinned - report.waiting)
        if report.fixes:
            report.flash_bytes_per_fix = round(self.hal.flash.written / report.fixes, 2)
        return report
