"""Faults of a district, at random times that the seed determines."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from patrolink.core.keys import DeviceKey
from patrolink.emulator.network.site_broker import SiteBroker
from patrolink.emulator.scenarios.district.board import Board, with_cameras_often
from patrolink.emulator.scenarios.district.hub_process import HubProcess
from patrolink.emulator.scenarios.district.invariants import Monitor
from patrolink.emulator.scheduler import Scheduler
from patrolink.hub.infra import bar_file

HOUR_MS = 3_600_000.0
_DAY_MS = 86_400_000
_ROLLOVER_MS = 1024 * 7 * _DAY_MS  # of the week number of GPS
_SLOW_MS = 5, 60  # for a system call of a slow disk
_FORGED_MAX = 3
_USED_WHEN_BARRED = 0.75  # part of the barred devices whose SOS button somebody presses
_FULL_WHEN_NEW = 0.1  # part of the devices whose storage has no room at the first power-on
_NEWEST = 20  # frames of each device that an attacker has at hand
_REPLAYED_MAX = 5  # frames that an attacker sends at once


@dataclass(frozen=True)
class DistrictFaults:
    """Mean hours between events: those of the site, then those of each device; None: never."""

    hub_kill_h: float | None = 0.2
    hub_stop_h: float | None = 0.4
    hub_disk_full_h: float | None = 0.4
    hub_disk_slow_h: float | None = 0.4
    hub_clock_jump_h: float | None = 0.5
    group_h: float | None = 0.15
    bar_h: float | None = 0.3
    broker_stop_h: float | None = 0.4
    broker_kill_h: float | None = 0.8
    replay_h: float | None = 0.05
    forge_h: float | None = 0.05
    copy_h: float | None = 0.4
    sos_h: float | None = 0.5
    power_cut_h: float | None = 1.0
    black_hole_h: float | None = 1.0
    outage_h: float | None = 0.7
    nat_rebinding_h: float | None = 0.3
    modem_restart_h: float | None = 2.0
    flash_full_h: float | None = 3.0
    flash_slow_h: float | None = 3.0
    clock_jump_h: float | None = 2.0
    date_jump_h: float | None = 2.0
    rotation_h: float | None = 1.0


NO_FAULTS = DistrictFaults(**dict.fromkeys((field.name for field in fields(DistrictFaults)), None) | {"sos_h": 0.5})


class RandomEvents:
    """Repeats actions at random intervals, until a time.

    Args:
        scheduler: Virtual clock.
        until_ms: Virtual time of the end.
    """

    def __init__(self, scheduler: Scheduler, until_ms: float) -> None:
        self.scheduler, self._until_ms = scheduler, until_ms

    def repeat(self, rng: random.Random, hours: float | None, action: Callable[[], None]) -> None:
        """Repeat an action at intervals of a mean length; None: never."""
        if hours is None:
            return

        def happen() -> None:
            if self.scheduler.now < self._until_ms:
                action()
                self.scheduler.after(rng.expovariate(1 / hours) * HOUR_MS, happen)

        self.scheduler.after(rng.expovariate(1 / hours) * HOUR_MS, happen)


class Attacker:
    """Captures frames at the broker and sends them again.

    Args:
        seed: Seed of the choice.
    """

    def __init__(self, seed: int, broker: SiteBroker, monitor: Monitor) -> None:
        self._random, self._broker, self._monitor = random.Random(f"attacker {seed}"), broker, monitor
        self._up: list[tuple[str, bytes]] = []
        self._down: list[tuple[str, bytes]] = []
        self._newest: dict[str, tuple[deque[bytes], deque[bytes]]] = {}  # frames of and to each device

    def capture_up(self, device: str, payload: bytes) -> None:
        """Capture some of the frames of devices."""
        self._newest_of(device)[0].append(payload)
        if self._random.random() < 0.02:
            self._up.append((device, payload))

    def capture_down(self, device: str, payload: bytes) -> None:
        """Capture some of the frames to devices."""
        self._newest_of(device)[1].append(payload)
        if self._random.random() < 0.1:
            self._down.append((device, payload))

    def replay(self) -> None:
        """Send frames to the hub and to devices."""
        for captured, inject in ((self._up, self._broker.inject), (self._down, self._broker.inject_down)):
            for device, payload in self._random.sample(captured, min(_REPLAYED_MAX, len(captured))):
                self._monitor.sums["frames_replayed"] += 1
                inject(device, payload)

    def forge(self) -> None:
        """Send the hub frames that no device has sealed, and devices those that the hub has not sealed."""
        for captured, inject in ((self._up, self._broker.inject), (self._down, self._broker.inject_down)):
            for device, payload in self._random.sample(captured, min(_FORGED_MAX, len(captured))):
                self._monitor.sums["frames_forged"] += 1
                forged = bytearray(payload)
                forged[self._random.randrange(len(forged))] ^= 1 << self._random.randrange(8)
                inject(device, bytes(forged))
                inject(self._random.choice(captured)[0], payload)

    def replay_of(self, device: str) -> None:
        """Send the newest frames of a device, and those to it, again."""
        for captured, inject in zip(
            self._newest_of(device), (self._broker.inject, self._broker.inject_down), strict=True
        ):
            for payload in captured:
                self._monitor.sums["frames_replayed"] += 1
                inject(device, payload)

    def _newest_of(self, device: str) -> tuple[deque[bytes], deque[bytes]]:
        return self._newest.setdefault(device, (deque(maxlen=_NEWEST), deque(maxlen=_NEWEST)))


class SiteFaults:
    """Faults of hub and broker, and devices that are barred.

    Args:
        seed: Seed of the faults.
        state: Folder of the site's state.
        keys: Keys of the devices.
        unix_ms: True time.
        press_sos: Presses the SOS button of a device.
    """

    def __init__(
        self,
        seed: int,
        events: RandomEvents,
        hub: HubProcess,
        broker: SiteBroker,
        monitor: Monitor,
        state: Path,
        keys: dict[str, DeviceKey],
        unix_ms: Callable[[], int],
        press_sos: Callable[[str], None],
    ) -> None:
        self._random, self._events, self._after = random.Random(f"faults {seed}"), events, events.scheduler.after
        self._barrable, self._press_sos = with_cameras_often(list(keys)), press_sos
        self._hub, self._broker, self._monitor = hub, broker, monitor
        self._bar_file, self._keys, self._unix_ms = state / bar_file.FILE, keys, unix_ms

    def schedule(self, faults: DistrictFaults) -> None:
        """Let things fail from now on."""
        repeat, rng = self._events.repeat, self._random
        repeat(rng, faults.hub_kill_h, self._kill_hub)
        repeat(rng, faults.hub_disk_full_h, self.fill_hub_disk)
        repeat(rng, faults.hub_disk_slow_h, self._slow_hub_disk)
        repeat(rng, faults.hub_clock_jump_h, self._jump_hub_clock)
        repeat(rng, faults.bar_h, self._bar)
        repeat(rng, faults.hub_stop_h, self._hub.stop)
        repeat(rng, faults.broker_stop_h, lambda: self._restart_broker(killed=False))
        repeat(rng, faults.broker_kill_h, lambda: self._restart_broker(killed=True))

    def end(self) -> None:
        """End the faults that last."""
        self._set_storage_full(False)
        self._hub.storage.write_ms = 0.0
        self._set_hub_clock(0)

    def _kill_hub(self) -> None:
        if self._random.random() < 0.5:
            self._hub.kill()
        else:
            self._hub.kill_in_write(self._random.randrange(60))

    def fill_hub_disk(self) -> None:
        """Leave the hub no space for some seconds or minutes."""
        self._monitor.sums["hub_disk_full"] += 1
        self._set_storage_full(True)
        self._after(self._random.uniform(5_000, 120_000), lambda: self._set_storage_full(False))

    def _set_storage_full(self, full: bool) -> None:
        if self._monitor.storage_is_full:
            self._monitor.storage_full_ms = self._events.scheduler.now
        self._monitor.storage_is_full = full
        if full:
            self._hub.storage.fill(shared=self._random.random() < 0.5)
        else:
            self._hub.storage.clear()

    def _slow_hub_disk(self) -> None:
        self._monitor.sums["hub_disk_slow"] += 1
        self._hub.storage.write_ms = self._random.uniform(*_SLOW_MS)
        self._after(self._random.uniform(5_000, 60_000), lambda: setattr(self._hub.storage, "write_ms", 0.0))

    def _jump_hub_clock(self) -> None:
        self._monitor.sums["hub_clock_jumps"] += 1
        self._set_hub_clock(self._random.choice((-1, 1)) * self._random.choice((60_000, _DAY_MS, 400 * _DAY_MS)))
        self._after(self._random.uniform(10_000, 200_000), lambda: self._set_hub_clock(0))

    def _set_hub_clock(self, offset_ms: int) -> None:
        self._hub.clock.offset_ms = offset_ms
        self._monitor.positions.is_clock_wrong = offset_ms != 0

    def _restart_broker(self, killed: bool) -> None:
        self._monitor.sums["broker_kills" if killed else "broker_stops"] += 1
        self._broker.restart(self._random.uniform(500, 30_000), killed)

    def _bar(self) -> None:
        """Bar a device as `patrolink hub bar` does, and admit it again after some minutes."""
        device, path = self._random.choice(self._barrable), self._bar_file
        key = bar_file.fingerprint(self._keys[device])
        entry = bar_file.Entry(who="operator", reason="lost", time_ms=self._unix_ms(), key=key)
        if not path.parent.is_dir():
            return
        self._monitor.sums["bars"] += 1
        bar_file.save(path, bar_file.load(path).with_bar(device, entry))
        self._monitor.barred[device] = self._events.scheduler.now
        if self._random.random() < _USED_WHEN_BARRED:
            self._after(self._random.uniform(0, 30_000), lambda: self._press_sos(device))

        def admit() -> None:
            bar_file.save(path, bar_file.load(path).without_bar(device, entry, keep_key=True))
            self._monitor.barred.pop(device, None)

        self._after(self._random.uniform(30_000, 240_000), admit)


def schedule_board_faults(
    board: Board, faults: DistrictFaults, events: RandomEvents, rebind: Callable[[], None]
) -> None:
    """Let a device fail from now on.

    Args:
        board: The device.
        faults: How often.
        events: When.
        rebind: Changes the public addresses of the device.
    """
    rng, network, after = board.random, board.network, events.scheduler.after

    def hole() -> None:
        network.black_hole = True
        after(rng.uniform(5_000, 120_000), lambda: setattr(network, "black_hole", False))

    def fill() -> None:
        flash = board.hal.flash
        flash.full_at = sum(map(len, flash.files.values())) + rng.randrange(200)
        after(rng.uniform(10_000, 90_000), lambda: setattr(flash, "full_at", None))

    def slow() -> None:
        board.hal.write_ms = rng.uniform(20, 300)
        after(rng.uniform(10_000, 60_000), lambda: setattr(board.hal, "write_ms", 0.0))

    def jump_date() -> None:
        clock = rng.choice(board.clocks)
        clock.offset_ms = rng.choice((-_ROLLOVER_MS, -_DAY_MS, -3_600_000, 3_600_000, _DAY_MS))
        after(rng.uniform(5_000, 120_000), lambda: setattr(clock, "offset_ms", 0))

    def jump() -> None:
        board.hal.clock.jump_ms += rng.uniform(1000, 40_000)

    if faults.flash_full_h is not None and rng.random() < _FULL_WHEN_NEW:
        fill()
    events.repeat(rng, faults.power_cut_h, board.cut_power)
    events.repeat(rng, faults.black_hole_h, hole)
    events.repeat(rng, faults.outage_h, lambda: network.outage(rng.uniform(5_000, 300_000)))
    events.repeat(rng, faults.flash_full_h, fill)
    events.repeat(rng, faults.flash_slow_h, slow)
    events.repeat(rng, faults.clock_jump_h, jump)
    events.repeat(rng, faults.date_jump_h, jump_date)
    if board.modem is not None:
        events.repeat(rng, faults.modem_restart_h, board.modem.start)
    else:
        events.repeat(rng, faults.nat_rebinding_h, rebind)
