"""A district on a virtual clock: devices, networks, broker, hub, dispatchers, and faults at every level.

The hub, the agents and the protocol are the real code. All randomness comes from the seed, so that a seed repeats a run
to the byte.
"""

import contextlib
import functools
import gc
import hashlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from patrolink.core.keys import DeviceKey
from patrolink.emulator import heap
from patrolink.emulator.network.carrier import PROFILES, Connection, Remote
from patrolink.emulator.network.site_broker import SiteBroker
from patrolink.emulator.network.virtual_udp import Address, UdpExchange
from patrolink.emulator.scenarios.district.board import (
    BROKER_HOST,
    CAMERAS,
    HUB_HOST,
    LIVE_PORT,
    Board,
)
from patrolink.emulator.scenarios.district.copied_board import CopiedBoard
from patrolink.emulator.scenarios.district.dispatcher import SimulatedDispatcher
from patrolink.emulator.scenarios.district.faults import (
    HOUR_MS,
    Attacker,
    DistrictFaults,
    RandomEvents,
    SiteFaults,
    schedule_board_faults,
)
from patrolink.emulator.scenarios.district.group_key_rule import GroupKeyRule
from patrolink.emulator.scenarios.district.hub_process import HubProcess
from patrolink.emulator.scenarios.district.identity_faults import IdentityFaults
from patrolink.emulator.scenarios.district.invariants import Monitor, Violation, is_rtcp
from patrolink.emulator.scenarios.district.memory_rule import MemoryRule
from patrolink.emulator.scenarios.district.site import DISPATCHERS, MORE_DISPATCHERS, SITE, write_site
from patrolink.emulator.scenarios.district.state_checks import StateChecks
from patrolink.emulator.scenarios.district.wrapped_key_rule import WrappedKeyRule
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.hub.app import Hub
from patrolink.hub.config import Dispatcher

_START_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z
_QUIET_MAX_MS = 1_800_000.0  # without faults at the end: what was recorded arrives, alarms are closed
_MINUTE_MS, _STEP_MS = 60_000.0, 10_000.0
_GROUP_SIZE = 12
_CALLING_DEVICES = 50  # a larger district has no more alarms than one of this size: its dispatchers are as few
_ANSWERED = 0.6  # part of the presses
_DAMAGED = 0.25  # part of the SOS
_KILLED, _DROPPED, _FULL = 0.06, 0.1, 0.05  # parts of the answers
_DROPPING_MS = 2000.0
_CLIPS_MAX = 100_000
_PLACES = ("city", "city", "village", "lift", "handover")


class District:
    """A simulated district.

    Args:
        devices: Number of devices.
        hours: Virtual hours with faults; a quiet time follows.
        seed: Seed of all randomness.
        faults: How often things fail.
        fix_s: Seconds between two fixes of a receiver.
        log: Called with seconds, a device and a line of text about what happens to it.

    Attributes:
        monitor: Observes the invariants.
    """

    def __init__(
        self,
        devices: int,
        hours: float,
        seed: int,
        faults: DistrictFaults | None = None,
        fix_s: float = 1.0,
        log: Callable[[float, str, str], None] | None = None,
    ) -> None:
        faults = faults or DistrictFaults()
        self.devices, self.hours, self.seed = devices, hours, seed
        self.scheduler = Scheduler()
        self.monitor = Monitor(self.scheduler, self.unix_ms, log)
        self._random = random.Random(f"district {seed}")
        self._are_faults_on = faults.hub_kill_h is not None
        self._until_ms, self._fix_s = hours * HOUR_MS, fix_s
        self._permits_listening = seed % 2 == 1
        self._folder = tempfile.TemporaryDirectory(prefix="patrolink-district-", dir=_memory_folder())
        names = [f"d{number:04d}" for number in range(devices)]
        self._keys = {name: DeviceKey(hashlib.sha256(f"{seed} {name}".encode()).digest()) for name in names}
        self.groups = [names[i : i + _GROUP_SIZE] for i in range(0, devices, _GROUP_SIZE)]
        lost = self.monitor.frame_lost_by_broker
        self.broker = SiteBroker(self.scheduler, str(seed), self._on_uplink, self._on_downlink, lost, self.unix_ms)
        self.exchange = UdpExchange(self._on_datagram)
        self._copies: list[Board] = []  # of boards, made in the run
        self._board_at: dict[Address, Board] = {}
        self._group_of: dict[int, int] = {}  # group of a burst's SSRC
        groups_file = Path(self._folder.name) / "state" / "shard-0" / "groups.json"
        self._group_keys = GroupKeyRule(groups_file, self.scheduler, self.monitor.violate)
        self._attacker = Attacker(seed, self.broker, self.monitor)
        site = self._write_site()
        self.hub = HubProcess(
            site, seed, self.scheduler, self.broker, self.exchange, self.monitor, self.unix_ms, self._on_hub_ready,
            self._group_keys.file_replaced,
        )  # fmt: skip
        self.boards = self._build_boards(names)
        if self._permits_listening:
            self.monitor.consent.permit_listening(board.name for board in self.boards if board.permits_listening)
        talk_s = 100 + 6 * devices
        numbers = list(range(1, len(self.groups) + 1))
        self.dispatchers = [
            SimulatedDispatcher(config, seed, numbers, names, talk_s, faults.group_h, self._before_answer, self.monitor)
            for config in self._dispatchers
        ]
        self._events = RandomEvents(self.scheduler, self._until_ms)
        self._schedule_wearers(talk_s, faults.sos_h)
        self._faults = SiteFaults(
            seed, self._events, self.hub, self.broker, self.monitor, site.parent / "state", self._keys, self.unix_ms,
            lambda name: self.boards[names.index(name)].hal.press(b"sos"),
        )  # fmt: skip
        self._identities = IdentityFaults(
            seed, self._events, self.boards, site.parent / "keys.toml", self._keys, self._copy_board, self._attacker,
            self.monitor,
        )  # fmt: skip
        self._schedule_faults(faults)
        self._begin_checks(site.parent)
        self.hub.start()

    def _write_site(self) -> Path:
        names = DISPATCHERS if self.devices < 100 else MORE_DISPATCHERS
        self._dispatchers = [Dispatcher(name=name, token_sha256="0" * 64) for name in names]
        return write_site(Path(self._folder.name), self._keys, self.groups, self._dispatchers, self._permits_listening)

    def _build_boards(self, names: list[str]) -> list[Board]:
        evidence_key = _evidence_key(self.seed)
        return [
            Board(
                number, self.seed, name, self._keys[name], SITE, PROFILES[self._random.choice(_PLACES)], self.scheduler,
                functools.partial(self._dial, number), self.monitor, self.unix_ms, self._fix_s,
                evidence_key if number % CAMERAS == 1 else b"",
            )
            for number, name in enumerate(names)
        ]  # fmt: skip

    def _begin_checks(self, folder: Path) -> None:
        self._wrapped_keys = WrappedKeyRule(self._keys, self.monitor.identities.settled_epoch, self.monitor.violate)
        agents = [(board.name, functools.partial(getattr, board, "device")) for board in self.boards]
        MemoryRule(self.scheduler, agents, lambda: self.hub.settled, self.devices, self.monitor.violate)
        StateChecks(folder, _GROUP_SIZE, self.scheduler, self.boards, self.hub, self.broker, self.monitor)

    def _schedule_faults(self, faults: DistrictFaults) -> None:
        self._faults.schedule(faults)
        self._identities.schedule(faults)
        self._events.repeat(self._random, faults.replay_h, self._attacker.replay)
        self._events.repeat(self._random, faults.forge_h, self._attacker.forge)
        for board in self.boards:
            schedule_board_faults(board, faults, self._events, functools.partial(self._rebind, board))

    def unix_ms(self) -> int:
        """Return the true Unix time in milliseconds."""
        return _START_MS + int(self.scheduler.now)

    # --- wires --------------------------------------------------------------------------------------------------------

    def _on_hub_ready(self, hub: Hub, loop: VirtualLoop) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.connect(hub, loop)

    def _dial(self, number: int, kind: str, host: str, port: int, connection: Connection) -> Remote | None:
        if host == BROKER_HOST:
            return self.broker.dial(kind, host, port, connection)
        if kind == "TCP" and host == HUB_HOST:
            name = (self.boards + self._copies)[number].name
            answered = functools.partial(self.monitor.upload_answered, name)
            return self.hub.tcp.dial(connection, port, f"10.255.{number >> 8}.{number & 255}", answered)
        if kind == "UDP" and host == HUB_HOST:
            flow = self.exchange.dial(connection, host, port)
            self._board_at[flow.address] = (self.boards + self._copies)[number]
            return flow
        return None

    def _copy_board(self, original: Board) -> Board:
        """Return a new copy of a board, with a separate network."""
        number = len(self.boards) + len(self._copies)
        copy = CopiedBoard(
            2 * number + original.has_voice, self.seed, original.name, self._keys[original.name], SITE,
            original.network.profile, self.scheduler, functools.partial(self._dial, number), self.monitor, self.unix_ms,
            self._fix_s, b"",
        )  # fmt: skip
        copy.copy_storage(original)
        self._copies.append(copy)
        return copy

    def _on_uplink(self, device: str, payload: bytes) -> None:
        network = self.broker.network_of(device)
        self.monitor.frame_published(device, payload, any(copy.network is network for copy in self._copies))
        self._attacker.capture_up(device, payload)

    def _on_downlink(self, device: str, payload: bytes) -> None:
        self.monitor.frame_sent_down(device, payload)
        self._wrapped_keys.frame_sent_down(device, payload)
        self._attacker.capture_down(device, payload)

    def _on_datagram(self, source: Address, target: Address, data: bytes) -> None:
        board = self._board_at.get(source)
        ssrc = int.from_bytes(data[8:12], "big")
        if board is not None and target[1] == LIVE_PORT:
            self.monitor.cameras.live_packet(board.name)
            return
        if board is not None:
            self.monitor.trace("datagram up", board.name, len(data), data[:12])
            if ssrc not in self._group_of and board.device is not None and board.device.ptt is not None:
                for group in board.device.ptt.groups:
                    if group.floor.audio_ssrc == ssrc:
                        self._group_of[ssrc] = group.number
            self.monitor.datagram_up(board.name, data, board)
            return
        board = self._board_at.get(target)
        if board is not None and source[1] != LIVE_PORT:
            self.monitor.trace("datagram down", board.name, len(data), data[:12])
            group = self._group_of.get(ssrc)
            self.monitor.datagram_down(board.name, data, group)
            if group is not None and not is_rtcp(data):
                self._group_keys.voice_relayed(group, data)

    # --- wearers ------------------------------------------------------------------------------------------------------

    def _schedule_wearers(self, talk_s: float, sos_h: float | None) -> None:
        sos_h = sos_h and sos_h * max(1, self.devices / _CALLING_DEVICES)
        for board in self.boards:
            if board.has_voice:
                self._events.repeat(board.random, talk_s / 3600, lambda board=board: self._press_to_talk(board))  # type: ignore[misc]
            self._events.repeat(board.random, sos_h, lambda board=board: self._press_sos(board))  # type: ignore[misc]

    def _press_sos(self, board: Board) -> None:
        """Let a wearer call for help; now and then the device is damaged at once, and loses its power."""
        board.hal.press(b"sos")
        if self._are_faults_on and board.random.random() < _DAMAGED:
            self.scheduler.after(board.random.uniform(100, 3000), board.cut_power)

    def _before_answer(self, device: str) -> None:
        """Kill the hub now and then while a dispatcher answers an SOS, fill its storage, or let the answer be lost."""
        if not self._are_faults_on:
            return
        if self._random.random() < _FULL:
            self._faults.fill_hub_disk()
        if self._random.random() < _KILLED:
            self.hub.kill_in_write(self._random.randrange(12))
        if self._random.random() < _DROPPED:
            self.monitor.sums["answers_dropped"] += 1
            self.broker.drop(device, _DROPPING_MS)

    def _press_to_talk(self, board: Board) -> None:
        """Let a wearer talk. Now and then somebody of the same group answers at once, or interrupts."""
        board.press_to_talk()
        self.monitor.sums["presses"] += 1
        if board.random.random() < _ANSWERED:
            first = self.boards.index(board) // _GROUP_SIZE * _GROUP_SIZE
            group = self.boards[first : first + _GROUP_SIZE]
            others = [other for other in group if other.has_voice and other is not board]
            if others:
                other = board.random.choice(others)
                self.scheduler.after(board.random.uniform(100, 3000), lambda: other.press_to_talk(emergencies=0.5))

    def _rebind(self, board: Board) -> None:
        self.monitor.sums["nat_rebindings"] += 1
        for address, owner in list(self._board_at.items()):
            if owner is board:
                new_address = self.exchange.rebind(address)
                del self._board_at[address]
                if new_address is not None:
                    self._board_at[new_address] = board

    # --- a run --------------------------------------------------------------------------------------------------------

    def run(self, on_progress: Callable[[float], None] | None = None) -> dict[str, Any]:
        """Run the district and return its report.

        Args:
            on_progress: Called each 10 virtual seconds with the part that is done.
        """
        with heap.rare_collections(), self.hub.storage.installed(), self._seeded_entropy():
            return self._run(on_progress)

    @contextlib.contextmanager
    def _seeded_entropy(self) -> Iterator[None]:
        """Let keys of devices come from the seed."""
        real, entropy = os.urandom, random.Random(f"{self.seed} entropy")
        os.urandom = entropy.randbytes
        try:
            yield
        finally:
            os.urandom = real

    def _run(self, on_progress: Callable[[float], None] | None) -> dict[str, Any]:
        while self.scheduler.now < self._until_ms:
            if self.scheduler.now <= _MINUTE_MS:
                heap.request_huge_pages()  # again and again: the heap grows while agents start
            self.scheduler.run_until(min(self.scheduler.now + _STEP_MS, self._until_ms))
            if self.scheduler.now == _MINUTE_MS:
                gc.freeze()  # all agents have started: collections need not look at them again and again
            if on_progress is not None:
                on_progress(self.scheduler.now / self._until_ms)
        self._begin_quiet()
        while self.scheduler.now < self._until_ms + _QUIET_MAX_MS and not self._is_settled():
            self.scheduler.run_until(self.scheduler.now + _MINUTE_MS)
        return self._finish()

    def _is_settled(self) -> bool:
        """Return whether nothing is left to arrive."""
        return (
            self.monitor.sos.are_closed()
            and not any(self.monitor.missing(board.name) > board.thinned for board in self.boards)
            and not self.monitor.cameras.missing(self._clips())
        )

    def _clips(self) -> list[dict[str, Any]]:
        """Return the hub's rows of clips."""
        if self.hub.hub is None:
            return []
        session = self.hub.hub.open_session(self._dispatchers[0])
        try:
            return session.clips(_CLIPS_MAX) or []
        finally:
            session.close()

    def _begin_quiet(self) -> None:
        """End all faults."""
        self._are_faults_on = False
        self.monitor.end_faults()
        self._faults.end()
        self._identities.end()
        for board in self.boards:
            board.network.restore_coverage()
            board.network.black_hole = False
            board.hal.flash.full_at, board.hal.write_ms = None, 0.0
            for clock in board.clocks:
                clock.offset_ms = 0

    def _finish(self) -> dict[str, Any]:
        for board in self.boards:
            self.monitor.check_delivery(board.name, board.thinned)
        self.monitor.sos.check()
        self.monitor.sums["clips"] = self.monitor.cameras.check_clips(self._clips())
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


def _evidence_key(seed: int) -> bytes:
    number = int.from_bytes(hashlib.sha256(f"{seed} evidence".encode()).digest(), "big") >> 1
    return EvidenceKey(ec.derive_private_key(number, ec.SECP256R1())).public


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - only a parent of a new private folder
