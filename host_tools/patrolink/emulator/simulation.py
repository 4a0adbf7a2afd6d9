"""A device, its receiver, its modem, the network and the broker on one virtual clock: hours pass in seconds.

Whatever is random comes from the seed, so a seed repeats a run. What counts as recorded is what the agent's storage
took on; what counts as delivered is what a hub opened, each frame once.
"""

import gc
import itertools
import random
import ssl
import sys
import tempfile
import types
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from patrolink_protocol import decode, frame, receiver

from patrolink import home, tracks
from patrolink.emulator import certificates, nmea, program
from patrolink.emulator.modem import Modem
from patrolink.emulator.network import Connection, Network, Profile, Remote
from patrolink.emulator.outcome import NO_FAULTS, Faults, Report
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_broker import VirtualBroker
from patrolink.emulator.virtual_hal import Line, PowerCut, Reset, VirtualHal
from patrolink.hub.events import EventDesk
from patrolink.keys import DeviceKey

_DEVICE = "sim-1"
_HOST = "broker.patrolink.example"
_START_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z
_HOUR_MS = 3_600_000.0
_DRAIN_MS = 2 * _HOUR_MS
_SAMPLE_MS = _HOUR_MS / 2


class Simulation:
    """
    dialect   the modem's
    faults    what goes wrong
    tls       MQTT over TLS, verified; without it a damaged byte on the modem's line can cost a frame
    settings  the device's configuration besides what the rig sets

    Before `run`, plan what else is to happen with `scheduler`, `network`, `modem`, `broker` and `hal`.
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
        self.scheduler = Scheduler()
        self.random = random.Random(f"simulation {seed}")
        self.report = Report(network=name, seed=seed, modem=dialect)
        self.log: deque[str] = deque(maxlen=2000)
        self._folder = tempfile.TemporaryDirectory(prefix="patrolink-sim-")
        self._key = DeviceKey(bytes(range(32)))
        context, trusted = self._certificates() if tls else (None, None)
        self.broker = VirtualBroker(self.scheduler, self._on_publish, context)
        self.network = Network(self.scheduler, profile, seed, self._dial)
        self.dials: dict[tuple[str, str, int], Callable[[Connection], Remote | None]] = {}
        self.hal = VirtualHal(self.scheduler, seed)
        self.hal.lines = {"gps": Line(), "modem": Line()}
        self.modem = Modem(
            self.scheduler, self.network, dialect, seed, lambda data: self.hal.give("modem", data), self.unix_ms
        )
        self.hal.lines["modem"].to_peer = self.modem.feed
        self.hal.pins["reset"] = self.modem.set_reset
        self._desk = EventDesk({_DEVICE: self._key})
        self._receiver = receiver.Receiver(self._key.secret, _DEVICE.encode())
        self.program, config = program.load()
        self.config = {
            **config.DEFAULTS,
            "device": _DEVICE,
            "key": self._key.secret,
            "broker": {"host": _HOST, "port": 8883, **({"tls": {"ca": str(trusted)}} if trusted else {})},
            "gps_uart": "gps",
            "state_dir": "state",
            "modem": {"uart": "modem", "apn": "cmnet", "reset_pin": "reset"},
            **(settings or {}),
        }
        self.device: Any = None
        self._recorded: set[int] = set()
        self._delivered: set[int] = set()
        self._fix_times: set[int] = set()
        self._pressed: dict[int, float] = {}
        self._event_s: list[float] = []
        self._speaking_until = 0.0
        self._done = False
        self.on_hour: Callable[[int], None] = lambda hour: None
        self._arm(faults)

    # --- the world --------------------------------------------------------------------------------------------------

    def unix_ms(self) -> int:
        """True time."""
        return _START_MS + int(self.scheduler.now)

    def _certificates(self) -> tuple[ssl.SSLContext, Path]:
        made = certificates.make(Path(self._folder.name), _HOST)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.cert)
        return context, made.ca

    def _dial(self, kind: str, host: str, port: int, connection: Connection) -> Remote | None:
        other = self.dials.get((kind, host, port))
        if other is not None:
            return other(connection)
        return self.broker.dial(kind, host, port, connection) if host == _HOST else None

    def every(self, name: str, hours: float | None, action: Callable[[], None]) -> None:
        """Do something again and again, at random, until the patrol ends."""
        if hours is None:
            return

        def happen() -> None:
            if self.scheduler.now < self._speaking_until:
                self.report.faults[name] = self.report.faults.get(name, 0) + 1
                action()
            self.scheduler.after(self.random.expovariate(1 / hours) * _HOUR_MS, happen)

        self.scheduler.after(self.random.expovariate(1 / hours) * _HOUR_MS, happen)

    def _arm(self, faults: Faults) -> None:
        after, hal, rng = self.scheduler.after, self.hal, self.random

        def mute(on: bool) -> None:
            self.broker.mute = on

        def hole(on: bool) -> None:
            self.network.black_hole = on

        def restart() -> None:
            self.broker.stop()
            after(rng.uniform(500, 20_000), lambda: setattr(self.broker, "up", True))

        def fill() -> None:
            hal.flash.full_at = sum(map(len, hal.flash.files.values())) + rng.randrange(200)
            after(rng.uniform(10_000, 90_000), lambda: setattr(hal.flash, "full_at", None))

        def jump() -> None:
            hal.clock_jump_ms += rng.uniform(1000, 40_000)

        def span(switch: Callable[[bool], None], seconds: float) -> Callable[[], None]:
            def begin() -> None:
                switch(True)
                after(rng.expovariate(1 / seconds) * 1000, lambda: switch(False))

            return begin

        self.every("power_cut", faults.power_cut_h, self.cut_power)
        self.every("modem_brown_out", faults.brown_out_h, self.modem.start)
        self.every("sim_pulled", faults.sim_pulled_h, span(lambda on: self.modem.set_sim(not on), 60))
        self.every("pdp_drop", faults.pdp_drop_h, self.network.drop_pdp)
        self.every("broker_restart", faults.broker_restart_h, restart)
        self.every("broker_mute", faults.broker_mute_h, span(mute, 60))
        self.every("black_hole", faults.black_hole_h, span(hole, 90))
        self.every("disk_full", faults.disk_full_h, fill)
        self.every("clock_jump", faults.clock_jump_h, jump)
        self.answers_lost = faults.answers_lost
        self.modem.line = replace(
            self.modem.line, drop=faults.line_drop, damage=faults.line_damage, late_urc=faults.late_urc
        )

    def cut_power(self) -> None:
        """Now, or in the middle of a write that comes within a minute."""
        if self.random.random() < 0.5:
            self.hal.dies = PowerCut()
            return
        self.hal.flash.cut_after = self.random.randrange(300)
        self.scheduler.after(60_000, lambda: self._cut_at_last(self.report.power_cuts))

    def _cut_at_last(self, cuts: int) -> None:
        if self.report.power_cuts == cuts:
            self.hal.dies = PowerCut()

    def press_sos(self) -> None:
        """The wearer presses SOS."""
        self._pressed[len(self._pressed) + len(self._event_s)] = self.scheduler.now
        self.hal.press(b"sos")

    def _speak(self, epochs: Iterator[bytes]) -> None:
        self.hal.give("gps", next(epochs))
        if self.scheduler.now + 1000 < self._speaking_until:
            self.scheduler.after(1000, lambda: self._speak(epochs))

    def _epochs(self) -> Iterator[bytes]:
        points = tracks.read(home.root() / "tests" / "golden" / "tracks" / "walk-1hz.csv")
        there_and_back = itertools.cycle(points + points[::-1])
        for point in there_and_back:
            yield nmea.epoch(replace(point, time_ms=self.unix_ms() // 1000 * 1000))

    # --- counting ---------------------------------------------------------------------------------------------------

    def _watch(self, device: Any) -> None:
        """Note what the device's storage takes on, from now on."""
        put, keep = device.outbox.put, device.events.put

        def put_noted(data: memoryview) -> bool:
            taken: bool = put(data)
            if taken:
                self._note(bytes(data))
            else:
                self.report.refused_by_storage += 1
            return taken

        def keep_noted(data: memoryview, counter: int, event_id: int) -> bool:
            taken: bool = keep(data, counter, event_id)
            if taken:
                self._note(bytes(data))
            return taken

        device.outbox.put, device.events.put = put_noted, keep_noted

    def _note(self, data: bytes) -> None:
        kind, counter, body, _ = self._receiver.channel.open_frame(data)
        message = decode.decode(kind, body)
        self._recorded.add(counter)
        if message["message"] == "event":
            self.report.events += 1

    def _on_publish(self, device: str, payload: bytes) -> None:
        try:
            kind, counter, body, _, repeated = self._receiver.open(payload)
        except frame.Reject:
            self.report.rejected += 1
            return
        message = decode.decode(kind, body)
        if message["message"] == "event" and self.random.random() >= self.answers_lost:
            self.broker.send(device, self._desk.answer(device, message["event_id"], self.unix_ms()))
        if repeated:
            self.report.resent += 1
            return
        if counter in self._delivered:
            self.report.duplicated += 1
        self._delivered.add(counter)
        if message["message"] == "position_batch":
            self._on_fixes([fix["time_ms"] for fix in message["fixes"]])
        elif message["message"] == "event" and self._pressed:
            first = min(self._pressed)
            self._event_s.append((self.scheduler.now - self._pressed.pop(first)) / 1000)

    def _on_fixes(self, times: list[int]) -> None:
        if self.report.first_fix_delivered_s is None:
            self.report.first_fix_delivered_s = round(self.scheduler.now / 1000, 1)
        self.report.duplicated += sum(t in self._fix_times for t in times)
        self._fix_times.update(times)

    def _sample(self) -> None:
        """How much memory the agent's own objects take."""
        size = footprint(self.device)
        report = self.report
        report.agent_bytes_least = min(report.agent_bytes_least or size, size)
        report.agent_bytes_most = max(report.agent_bytes_most, size)
        if self.scheduler.now < self._speaking_until:
            self.scheduler.after(_SAMPLE_MS, self._sample)

    # --- a run ------------------------------------------------------------------------------------------------------

    def run(self, hours: float) -> Report:
        """Patrol for so long, wait for what is under way, and return the report."""
        self._speaking_until = hours * _HOUR_MS
        epochs = self._epochs()
        self.scheduler.after(1000, lambda: self._speak(epochs))
        self.scheduler.after(_SAMPLE_MS, self._sample)
        for hour in range(1, int(hours) + 1):
            self.scheduler.at(hour * _HOUR_MS, lambda hour=hour: self.on_hour(hour))  # type: ignore[misc]
        self.scheduler.at(self._speaking_until + 2000, self._end_shift)
        while not self._done:
            self._life()
        return self._finish(hours)

    def _end_shift(self) -> None:
        self.network.shelter()
        self._watch_the_end()

    def _watch_the_end(self) -> None:
        """Power off once nothing waits, or after the time for it."""
        if self.device is not None:
            waiting = len(self.device.outbox) + len(self.device.events)
            if not waiting or self.scheduler.now > self._speaking_until + _DRAIN_MS:
                self.hal.press(b"off")
                return
        self.scheduler.after(500, self._watch_the_end)

    def _life(self) -> None:
        """From power on to whatever ends it."""
        self.hal.boot()
        try:
            self.device = self.program.Device(self.config, self.hal, self._say)
            self._watch(self.device)
            # The hello went out while the device was built.
            self.device.run()
            self._done = True
        except PowerCut:
            self.report.power_cuts += 1
            self._say("-- power cut --")
            self.report.fixes_in_memory_at_power_cuts += self._in_memory()
            self._count()
            self.scheduler.run_until(self.scheduler.now + self.random.uniform(1000, 60_000))
            self.modem.start()
        except Reset as e:
            self._say(f"-- reset: {e.why} --")
            if e.why == "watchdog":
                self.report.watchdog_resets += 1
            else:
                self.report.board_resets += 1
            self._count()

    def _in_memory(self) -> int:
        return self.device.reporter.waiting() if self.device is not None else 0

    def _count(self) -> None:
        device, self.device = self.device, None
        if device is not None:
            self.report.reconnects += max(0, device.session.connects - 1)
            self.report.thinned += device.outbox.thinned

    def _say(self, text: str) -> None:
        self.log.append(f"{self.scheduler.now / 1000:10.3f} {text}")

    def _finish(self, hours: float) -> Report:
        report = self.report
        report.waiting = len(self.device.outbox) + len(self.device.events)
        self._count()
        report.hours = hours
        report.recorded = len(self._recorded)
        missing = self._recorded - self._delivered
        report.delivered = len(self._recorded) - len(missing)
        report.lost = max(0, len(missing) - report.thinned - report.waiting)
        report.fixes = len(self._fix_times)
        if self._event_s:
            ordered = sorted(self._event_s)
            report.event_s_median = round(ordered[len(ordered) // 2], 2)
            report.event_s_max = round(ordered[-1], 2)
        report.outages = self.network.outages
        report.modem_boots = self.modem.boots
        report.bytes_up, report.bytes_down = self.network.bytes_up, self.network.bytes_down
        if report.fixes:
            report.flash_bytes_per_fix = round(self.hal.flash.written / report.fixes, 2)
        self._folder.cleanup()
        return report


def footprint(device: Any) -> int:
    """Return the bytes of all objects that the agent holds, its modules and the emulated board left out."""
    seen: set[int] = set()
    total = 0
    stack = [device]
    while stack:
        it = stack.pop()
        if id(it) in seen or isinstance(it, type | types.ModuleType | types.FunctionType | ssl.SSLContext):
            continue
        if type(it).__module__.startswith("patrolink.") or isinstance(it, types.FrameType):
            continue
        seen.add(id(it))
        total += sys.getsizeof(it)
        stack += gc.get_referents(it)
    return total
