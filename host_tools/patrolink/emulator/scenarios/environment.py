"""Environment of a device on a virtual clock: receiver, modem, network, broker and hub, with a report.

All randomness comes from the seed. A frame counts as delivered when a hub has opened it for the first time.
"""

import functools
import itertools
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from ssl import SSLContext

from patrolink_protocol import decode, receiver
from patrolink_protocol.errors import RejectError

from patrolink.core import resources, tracks
from patrolink.core.decoder import Row
from patrolink.core.keys import DeviceKey
from patrolink.emulator.network.carrier import Connection, Network, Profile, Remote
from patrolink.emulator.network.virtual_broker import VirtualBroker
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.modem import Modem
from patrolink.emulator.scenarios.outcome import Faults, Report
from patrolink.emulator.scheduler import Scheduler
from patrolink.hub.infra.downlink import Downlink

DEVICE = "sim-1"
HOST = "broker.patrolink.example"
_START_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z
HOUR_MS = 3_600_000.0


@functools.cache
def walk() -> list[nmea.Epoch]:
    """Return the epochs of a walk along the demo track and back."""
    epochs = [nmea.Epoch(point) for point in tracks.read(resources.demo_track())]
    return epochs + epochs[::-1]


def _ignore_hour(hour: int) -> None:
    """Do nothing at a full hour."""


class Environment(ABC):
    """Base class of simulations.

    Before a run, schedule further events with `scheduler`, `network`, `modem` and `broker`.

    Args:
        profile: Network conditions.
        seed: Seed of all randomness.
        dialect: Dialect of the modem.
        name: Name of the network in the report.
        context: TLS context of the broker; None for plain TCP.

    Attributes:
        on_message: Called with each message on its first arrival.
    """

    def __init__(self, profile: Profile, seed: int, dialect: str, name: str, context: SSLContext | None) -> None:
        self.scheduler = Scheduler()
        self.seed = seed
        self.random = random.Random(f"simulation {seed}")
        self.report = Report(network=name, seed=seed, modem=dialect)
        self.log: deque[str] = deque(maxlen=2000)
        self.key = DeviceKey(bytes(range(32)))
        self.broker = VirtualBroker(self.scheduler, self._on_publish, context)
        self.network = Network(self.scheduler, profile, seed, self._dial)
        self.listeners: dict[tuple[str, str, int], Callable[[Connection], Remote | None]] = {}
        self.modem = Modem(self.scheduler, self.network, dialect, seed, self.from_modem, self.unix_ms)
        self._downlink = Downlink({DEVICE: self.key})
        self.hub = receiver.Receiver(self.key.secret, DEVICE.encode())
        self.delivered: set[int] = set()
        self.fix_times: set[int] = set()
        self._pressed: dict[int, float] = {}
        self._event_s: list[float] = []
        self.receiver_until_ms = 0.0
        self.answers_lost = 0.0
        self.on_message: Callable[[Row], None] = lambda message: None  # a message on its first arrival

    # --- the board ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def from_modem(self, data: bytes) -> None:
        """Deliver bytes of the modem to the board."""

    @abstractmethod
    def from_gps(self, data: bytes) -> None:
        """Deliver bytes of the receiver to the board."""

    @abstractmethod
    def press(self, button: str) -> None:
        """Press a button of the board."""

    @abstractmethod
    def cut_power(self) -> None:
        """Cut the power now or during one of the next writes."""

    # --- the environment --------------------------------------------------------------------------------------------

    def unix_ms(self) -> int:
        """Return the true Unix time in milliseconds."""
        return _START_MS + int(self.scheduler.now)

    def _dial(self, kind: str, host: str, port: int, connection: Connection) -> Remote | None:
        listener = self.listeners.get((kind, host, port))
        if listener is not None:
            return listener(connection)
        return self.broker.dial(kind, host, port, connection) if host == HOST else None

    def every(self, name: str, hours: float | None, action: Callable[[], None]) -> None:
        """Repeat an action at random intervals until the receiver stops."""
        if hours is None:
            return

        def happen() -> None:
            if self.scheduler.now < self.receiver_until_ms:
                self.report.faults[name] = self.report.faults.get(name, 0) + 1
                action()
            self.scheduler.after(self.random.expovariate(1 / hours) * HOUR_MS, happen)

        self.scheduler.after(self.random.expovariate(1 / hours) * HOUR_MS, happen)

    def schedule_faults(self, faults: Faults) -> None:
        """Schedule the faults that do not depend on the kind of board."""
        after, rng = self.scheduler.after, self.random

        def mute(on: bool) -> None:
            self.broker.mute = on

        def hole(on: bool) -> None:
            self.network.black_hole = on

        def restart() -> None:
            self.broker.stop()
            after(rng.uniform(500, 20_000), lambda: setattr(self.broker, "up", True))

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
        self.answers_lost = faults.answers_lost
        self.modem.line = replace(
            self.modem.line, drop=faults.line_drop, damage=faults.line_damage, late_urc=faults.late_urc
        )

    def press_sos(self) -> None:
        """Press SOS."""
        self._pressed[len(self._pressed) + len(self._event_s)] = self.scheduler.now
        self.press("sos")

    def begin(self, hours: float, on_hour: Callable[[int], None] | None = None) -> None:
        """Start the receiver for a number of hours; `on_hour` is called at each full hour with its number."""
        self.receiver_until_ms = hours * HOUR_MS
        epochs = self._epochs()
        self.scheduler.after(1000, lambda: self._speak(epochs))
        for hour in range(1, int(hours) + 1):
            # Scheduled without a listener too: both runs have the same sequence of events.
            self.scheduler.at(hour * HOUR_MS, functools.partial(on_hour or _ignore_hour, hour))

    def _speak(self, epochs: Iterator[bytes]) -> None:
        self.from_gps(next(epochs))
        if self.scheduler.now + 1000 < self.receiver_until_ms:
            self.scheduler.after(1000, lambda: self._speak(epochs))

    def _epochs(self) -> Iterator[bytes]:
        for epoch in itertools.cycle(walk()):
            yield epoch.at(self.unix_ms() // 1000 * 1000)

    # --- counting ---------------------------------------------------------------------------------------------------

    def _on_publish(self, device: str, payload: bytes) -> None:
        try:
            kind, counter, repeated = self.hub.accept(payload)
            body, _ = self.hub.read(payload)
        except RejectError:
            self.report.rejected += 1
            return
        message = decode.decode(kind, body)
        if message["message"] == "event" and self.random.random() >= self.answers_lost:
            self.broker.send(device, self._downlink.acknowledge_event(device, message["event_id"], self.unix_ms()))
        if repeated:
            self.report.resent += 1
            return
        if counter in self.delivered:
            self.report.duplicated += 1
        self.delivered.add(counter)
        self.on_message(message)
        if message["message"] == "position_batch":
            self._on_fixes([fix["time_ms"] for fix in message["fixes"]])
        elif message["message"] == "event" and self._pressed:
            first = min(self._pressed)
            self._event_s.append((self.scheduler.now - self._pressed.pop(first)) / 1000)

    def _on_fixes(self, times: list[int]) -> None:
        if self.report.first_fix_delivered_s is None:
            self.report.first_fix_delivered_s = round(self.scheduler.now / 1000, 1)
        self.report.duplicated += sum(t in self.fix_times for t in times)
        self.fix_times.update(times)

    def log_line(self, text: str) -> None:
        """Append a line to the log."""
        self.log.append(f"{self.scheduler.now / 1000:10.3f} {text}")

    def finish(self, hours: float) -> Report:
        """Complete the report and return it."""
        report = self.report
        report.hours = hours
        report.delivered = len(self.delivered)
        report.fixes = len(self.fix_times)
        if self._event_s:
            ordered = sorted(self._event_s)
            report.event_median_s = round(ordered[len(ordered) // 2], 2)
            report.event_max_s = round(ordered[-1], 2)
        report.outages = self.network.outages
        report.modem_boots = self.modem.boots
        report.bytes_up, report.bytes_down = self.network.bytes_up, self.network.bytes_down
        return report
