"""A district on a virtual clock: devices, networks, broker, hub, dispatchers, and faults at every level.

The hub, the agents and the protocol are the real code. All randomness comes from the seed, so that a seed repeats a run
to the byte.
"""

import hashlib
import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from patrolink.core import keys
from patrolink.core.keys import DeviceKey
from patrolink.emulator.network.carrier import PROFILES, Connection, Remote
from patrolink.emulator.network.site_broker import SiteBroker
from patrolink.emulator.network.virtual_udp import Address, UdpExchange
from patrolink.emulator.scenarios.district.board import BROKER_HOST, Board
from patrolink.emulator.scenarios.district.dispatcher import CLOSED_STATE, SimulatedDispatcher
from patrolink.emulator.scenarios.district.hub_process import HubProcess
from patrolink.emulator.scenarios.district.invariants import Monitor, Violation
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop
from patrolink.hub.app import Hub
from patrolink.hub.config import Dispatcher
from patrolink.hub.infra import bar_file

_START_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z
_HOUR_MS = 3_600_000.0
_QUIET_MAX_MS = 1_800_000.0  # without faults at the end: what was recorded arrives, alarms are closed
_MINUTE_MS = 60_000.0
_SAMPLE_MS = 10_000.0
_TERMS_MS = 300_000.0  # in which a device that is connected has to know its groups and keys
_GROUP_SIZE = 12
_SITE = "district.example"
_HUB_HOST = "hub.patrolink.example"
_FLOOR_PORT, _MEDIA_PORT = 5004, 5006
_PLACES = ("city", "city", "village", "lift", "handover")


@dataclass(frozen=True)
class DistrictFaults:
    """Mean hours between events: those of the site, then those of each device; None: never."""

    hub_kill_h: float | None = 0.2
    hub_stop_h: float | None = 0.4
    hub_disk_full_h: float | None = 0.4
    hub_clock_jump_h: float | None = 0.5
    group_h: float | None = 0.15
    bar_h: float | None = 0.3
    broker_stop_h: float | None = 0.4
    broker_kill_h: float | None = 0.8
    replay_h: float | None = 0.05
    sos_h: float | None = 0.5
    power_cut_h: float | None = 1.0
    black_hole_h: float | None = 1.0
    outage_h: float | None = 0.7
    nat_rebinding_h: float | None = 0.3
    modem_restart_h: float | None = 2.0
    flash_full_h: float | None = 3.0
    clock_jump_h: float | None = 2.0


NO_FAULTS = DistrictFaults(**dict.fromkeys((field.name for field in fields(DistrictFaults)), None) | {"sos_h": 0.5})


class District:
    """A simulated district.

    Args:
        devices: Number of devices.
        hours: Virtual hours with faults; a quiet time follows.
        seed: Seed of all randomness.
        faults: How often things fail.
        fix_s: Seconds between two fixes of a receiver.

    Attributes:
        monitor: Observes the invariants.
    """

    def __init__(
        self, devices: int, hours: float, seed: int, faults: DistrictFaults | None = None, fix_s: float = 1.0
    ) -> None:
        faults = faults or DistrictFaults()
        self.devices, self.hours, self.seed = devices, hours, seed
        self.scheduler = Scheduler()
        self.monitor = Monitor(self.scheduler)
        self._random = random.Random(f"district {seed}")
        self._until_ms = hours * _HOUR_MS
        self._folder = tempfile.TemporaryDirectory(prefix="patrolink-district-", dir=_memory_folder())
        names = [f"d{number:04d}" for number in range(devices)]
        self._keys = {name: DeviceKey(hashlib.sha256(f"{seed} {name}".encode()).digest()) for name in names}
        self.groups = [names[i : i + _GROUP_SIZE] for i in range(0, devices, _GROUP_SIZE)]
        lost = self.monitor.frame_lost_by_broker
        self.broker = SiteBroker(self.scheduler, str(seed), self._on_uplink, self._on_downlink, lost, self.unix_ms)
        self.exchange = UdpExchange(self._on_datagram)
        self._board_at: dict[Address, Board] = {}
        self._group_of: dict[int, int] = {}  # group of a burst's SSRC
        self._captured: list[tuple[str, bytes]] = []  # frames that an attacker replays
        self._captured_down: list[tuple[str, bytes]] = []
        site = self._write_site()
        self.hub = HubProcess(
            site, seed, self.scheduler, self.broker, self.exchange, self.monitor, self.unix_ms, self._on_hub_ready
        )
        self.boards = [
            Board(
                number, seed, name, self._keys[name], _SITE, PROFILES[self._random.choice(_PLACES)], self.scheduler,
                self._dialer(number), self.monitor, self.unix_ms, fix_s,
            )
            for number, name in enumerate(names)
        ]  # fmt: skip
        talk_s = 100 + 6 * devices
        numbers = list(range(1, len(self.groups) + 1))
        self.dispatchers = [
            SimulatedDispatcher(config, seed, numbers, names, talk_s, faults.group_h, self.monitor)
            for config in self._dispatchers
        ]
        self._schedule_wearers(talk_s, faults.sos_h)
        self._schedule_faults(faults)
        self._ignorant_ms: dict[str, float] = {}  # how long devices have not known their groups while connected
        self._recordings = 0
        self.scheduler.after(_SAMPLE_MS, self._sample)
        self.hub.start()

    def unix_ms(self) -> int:
        """Return the true Unix time in milliseconds."""
        return _START_MS + int(self.scheduler.now)

    # --- site ---------------------------------------------------------------------------------------------------------

    def _write_site(self) -> Path:
        folder = Path(self._folder.name)
        keys.write(folder / "keys.toml", {name: key.secret for name, key in self._keys.items()})
        names = ("anna", "bo") if self.devices < 100 else ("anna", "bo", "chen", "dora")
        self._dispatchers = [Dispatcher(name=name, token_sha256="0" * 64) for name in names]
        lines = [
            f'name = "{_SITE}"', 'keys = "keys.toml"', 'broker = "mqtt://broker"', "[[hub]]",
            f'host = "{_HUB_HOST}"', f"floor_port = {_FLOOR_PORT}", f"media_port = {_MEDIA_PORT}",
        ]  # fmt: skip
        for number, members in enumerate(self.groups, 1):
            voiced = [name for name in members if int(name[1:]) % 2]
            if voiced:
                lines += ["[[group]]", f"id = {number}", f'name = "Circle {number}"', "talk_s = 10"]
                lines += ["[[group.member]]", f"devices = {voiced}", 'rights = ["talk", "emergency"]']
        for dispatcher in self._dispatchers:
            lines += ["[[dispatcher]]", f'name = "{dispatcher.name}"', f'token_sha256 = "{dispatcher.token_sha256}"']
        path = folder / "site.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _on_hub_ready(self, hub: Hub, loop: VirtualLoop) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.connect(hub, loop)

    # --- wires --------------------------------------------------------------------------------------------------------

    def _dialer(self, number: int) -> Callable[[str, str, int, Connection], Remote | None]:
        def dial(kind: str, host: str, port: int, connection: Connection) -> Remote | None:
            if host == BROKER_HOST:
                return self.broker.dial(kind, host, port, connection)
            if kind == "UDP" and host == _HUB_HOST:
                flow = self.exchange.dial(connection, host, port)
                self._board_at[flow.address] = self.boards[number]
                return flow
            return None

        return dial

    def _on_uplink(self, device: str, payload: bytes) -> None:
        self.monitor.frame_published(device, payload)
        if self._random.random() < 0.02:
            self._captured.append((device, payload))

    def _on_downlink(self, device: str, payload: bytes) -> None:
        self.monitor.frame_sent_down(device, payload)
        if self._random.random() < 0.1:
            self._captured_down.append((device, payload))

    def _on_datagram(self, source: Address, target: Address, data: bytes) -> None:
        board = self._board_at.get(source)
        ssrc = int.from_bytes(data[8:12], "big")
        if board is not None:
            self.monitor.trace("datagram up", board.name, len(data), data[:12])
            if ssrc not in self._group_of and board.device is not None and board.device.ptt is not None:
                for group in board.device.ptt.groups:
                    if group.floor.audio_ssrc == ssrc:
                        self._group_of[ssrc] = group.number
            self.monitor.datagram_up(board.name, data)
            return
        board = self._board_at.get(target)
        if board is not None:
            self.monitor.trace("datagram down", board.name, len(data), data[:12])
            self.monitor.datagram_down(board.name, data, self._group_of.get(ssrc))

    # --- wearers ------------------------------------------------------------------------------------------------------

    def _schedule_wearers(self, talk_s: float, sos_h: float | None) -> None:
        for board in self.boards:
            if board.has_voice:
                self._repeat(board.random, talk_s / 3600, lambda board=board: self._press_to_talk(board))  # type: ignore[misc]
            self._repeat(board.random, sos_h, lambda board=board: board.hal.press(b"sos"))  # type: ignore[misc]

    def _press_to_talk(self, board: Board) -> None:
        board.hal.press(b"emergency" if board.random.random() < 0.1 else b"ptt")
        self.scheduler.after(board.random.uniform(500, 3000), lambda: board.hal.press(b"ptt-up"))
        self.monitor.sums["presses"] += 1

    # --- state that is compared regularly -----------------------------------------------------------------------------

    def _sample(self) -> None:
        """Compare what devices know with the hub's state on storage."""
        self.scheduler.after(_SAMPLE_MS, self._sample)
        state = Path(self._folder.name) / "state" / "shard-0" / "groups.json"
        if self.hub.hub is not None and self.broker.up and state.is_file():
            groups = json.loads(state.read_bytes())["groups"]
            for board in self.boards:
                if board.is_connected and board.has_voice and board.name not in self.monitor.barred:
                    self._check_terms(board, groups)
        recordings = sum(1 for _ in Path(self._folder.name).glob("recordings/*/*.json"))
        if recordings < self._recordings:
            self.monitor.violate("evidence", f"{self._recordings - recordings} recordings of today were deleted")
        self._recordings = recordings

    def _check_terms(self, board: Board, groups: dict[str, Any]) -> None:
        expected = {
            int(number): (group["key"], group["seats"][board.name])
            for number, group in groups.items()
            if board.name in group["seats"]
        }
        known = {group.number: (group.key, group.floor.ssrc) for group in board.device.ptt.groups}
        if known == expected:
            self._ignorant_ms.pop(board.name, None)
            return
        ignorant_ms = self._ignorant_ms[board.name] = self._ignorant_ms.get(board.name, 0) + _SAMPLE_MS
        if ignorant_ms == _TERMS_MS:
            text = f"{board.name} has not known its groups for {_TERMS_MS / 1000:.0f} s: {known}, not {expected}"
            self.monitor.violate("terms", text)

    # --- faults -------------------------------------------------------------------------------------------------------

    def _repeat(self, rng: random.Random, hours: float | None, action: Callable[[], None]) -> None:
        """Repeat an action at random intervals until the quiet time."""
        if hours is None:
            return

        def happen() -> None:
            if self.scheduler.now < self._until_ms:
                action()
                self.scheduler.after(rng.expovariate(1 / hours) * _HOUR_MS, happen)

        self.scheduler.after(rng.expovariate(1 / hours) * _HOUR_MS, happen)

    def _schedule_faults(self, faults: DistrictFaults) -> None:
        rng = random.Random(f"faults {self.seed}")
        self._repeat(rng, faults.hub_kill_h, lambda: self._kill_hub(rng))
        self._repeat(rng, faults.hub_disk_full_h, lambda: self._fill_hub_disk(rng))
        self._repeat(rng, faults.hub_clock_jump_h, lambda: self._jump_hub_clock(rng))
        self._repeat(rng, faults.bar_h, lambda: self._bar(rng))
        self._repeat(rng, faults.hub_stop_h, self.hub.stop)
        self._repeat(rng, faults.broker_stop_h, lambda: self._restart_broker(rng, killed=False))
        self._repeat(rng, faults.broker_kill_h, lambda: self._restart_broker(rng, killed=True))
        self._repeat(rng, faults.replay_h, lambda: self._replay(rng))
        for board in self.boards:
            self._schedule_board_faults(board, faults)

    def _schedule_board_faults(self, board: Board, faults: DistrictFaults) -> None:
        rng, network = board.random, board.network

        def hole() -> None:
            network.black_hole = True
            self.scheduler.after(rng.uniform(5_000, 120_000), lambda: setattr(network, "black_hole", False))

        def fill() -> None:
            flash = board.hal.flash
            flash.full_at = sum(map(len, flash.files.values())) + rng.randrange(200)
            self.scheduler.after(rng.uniform(10_000, 90_000), lambda: setattr(flash, "full_at", None))

        def jump() -> None:
            board.hal.clock_jump_ms += rng.uniform(1000, 40_000)

        self._repeat(rng, faults.power_cut_h, board.cut_power)
        self._repeat(rng, faults.black_hole_h, hole)
        self._repeat(rng, faults.outage_h, lambda: network.outage(rng.uniform(5_000, 300_000)))
        self._repeat(rng, faults.flash_full_h, fill)
        self._repeat(rng, faults.clock_jump_h, jump)
        if board.modem is not None:
            self._repeat(rng, faults.modem_restart_h, board.modem.start)
        else:
            self._repeat(rng, faults.nat_rebinding_h, lambda: self._rebind(board))

    def _kill_hub(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            self.hub.kill()
        else:
            self.hub.kill_in_write(rng.randrange(60))

    def _fill_hub_disk(self, rng: random.Random) -> None:
        self.monitor.sums["hub_disk_full"] += 1
        self._set_storage_full(True)
        self.scheduler.after(rng.uniform(5_000, 120_000), lambda: self._set_storage_full(False))

    def _set_storage_full(self, full: bool) -> None:
        self.monitor.storage_is_full = full
        if full:
            self.hub.storage.fill()
        else:
            self.hub.storage.clear()

    def _jump_hub_clock(self, rng: random.Random) -> None:
        self.monitor.sums["hub_clock_jumps"] += 1
        self.hub.clock.offset_ms = round(rng.choice((-1, 1)) * rng.choice((60_000, 86_400_000, 400 * 86_400_000)))
        self.scheduler.after(rng.uniform(10_000, 200_000), lambda: setattr(self.hub.clock, "offset_ms", 0))

    def _bar(self, rng: random.Random) -> None:
        """Bar a device as `patrolink hub bar` does, and admit it again after some minutes."""
        board = rng.choice(self.boards)
        key = bar_file.fingerprint(self._keys[board.name])
        entry = bar_file.Entry(who="operator", reason="lost", time_ms=self.unix_ms(), key=key)
        path = Path(self._folder.name) / "state" / bar_file.FILE
        if not path.parent.is_dir():
            return
        self.monitor.sums["bars"] += 1
        bar_file.save(path, bar_file.load(path).with_bar(board.name, entry))
        self.monitor.barred[board.name] = self.scheduler.now

        def admit() -> None:
            bar_file.save(path, bar_file.load(path).without_bar(board.name, entry, keep_key=True))
            self.monitor.barred.pop(board.name, None)

        self.scheduler.after(rng.uniform(30_000, 240_000), admit)

    def _restart_broker(self, rng: random.Random, killed: bool) -> None:
        self.monitor.sums["broker_kills" if killed else "broker_stops"] += 1
        self.broker.restart(rng.uniform(500, 30_000), killed)

    def _replay(self, rng: random.Random) -> None:
        """Send the hub and devices frames that an attacker has captured."""
        for device, payload in rng.sample(self._captured, min(5, len(self._captured))):
            self.monitor.sums["frames_replayed"] += 1
            self.broker.inject(device, payload)
        for device, payload in rng.sample(self._captured_down, min(5, len(self._captured_down))):
            self.monitor.sums["frames_replayed"] += 1
            self.broker.inject_down(device, payload)

    def _rebind(self, board: Board) -> None:
        self.monitor.sums["nat_rebindings"] += 1
        for address, owner in list(self._board_at.items()):
            if owner is board:
                flow = self.exchange.rebind(address)
                del self._board_at[address]
                if flow is not None:
                    self._board_at[flow] = board

    # --- a run --------------------------------------------------------------------------------------------------------

    def run(self, on_progress: Callable[[float], None] | None = None) -> dict[str, Any]:
        """Run the district and return its report.

        Args:
            on_progress: Called about each virtual minute with the part that is done.
        """
        with self.hub.storage.installed():
            return self._run(on_progress)

    def _run(self, on_progress: Callable[[float], None] | None) -> dict[str, Any]:
        while self.scheduler.now < self._until_ms:
            self.scheduler.run_until(min(self.scheduler.now + _MINUTE_MS, self._until_ms))
            if on_progress is not None:
                on_progress(self.scheduler.now / self._until_ms)
        self._begin_quiet()
        while self.scheduler.now < self._until_ms + _QUIET_MAX_MS and not self._is_settled():
            self.scheduler.run_until(self.scheduler.now + _MINUTE_MS)
        return self._finish()

    def _is_settled(self) -> bool:
        """Return whether nothing is left to arrive."""
        return self.monitor.alarms_are_closed(CLOSED_STATE) and not any(
            self.monitor.missing(board.name) > board.thinned for board in self.boards
        )

    def _begin_quiet(self) -> None:
        """End all faults."""
        self.monitor.end_faults()
        self._set_storage_full(False)
        self.hub.clock.offset_ms = 0
        for board in self.boards:
            board.network.restore_coverage()
            board.network.black_hole = False
            board.hal.flash.full_at = None

    def _finish(self) -> dict[str, Any]:
        for board in self.boards:
            self.monitor.check_delivery(board.name, board.thinned)
        self.monitor.check_alarms(CLOSED_STATE)
        self.hub.dispose()
        self._folder.cleanup()
        return {
            "devices": self.devices,
            "hours": self.hours,
            "seed": self.seed,
            "trace_sha256": self.monitor.trace_sha256,
            "violations": self.monitor.count,
            **dict(sorted(self.monitor.sums.items())),
        }

    @property
    def violations(self) -> list[Violation]:
        """The first violations."""
        return self.monitor.violations


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - only a parent of a new private folder
