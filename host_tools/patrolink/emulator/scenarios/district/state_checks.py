"""Compares what devices know, and what the hub keeps, with what must be, at regular times."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patrolink.emulator.network.site_broker import SiteBroker
from patrolink.emulator.scenarios.district.board import Board
from patrolink.emulator.scenarios.district.hub_process import HubProcess
from patrolink.emulator.scenarios.district.invariants import Monitor
from patrolink.emulator.scheduler import Scheduler

_SAMPLE_MS = 10_000.0
_SEATS_MS = 10_000.0  # in which a barred device has to leave its groups
_ADMITTED_MS = 30_000.0  # in which a device that is admitted again has to get its groups
_TERMS_MS = 300_000.0  # in which a device that is connected has to know its groups and keys
_ANSWER_MS = 300_000.0  # in which the wearer of a device that is connected has to be shown the end of an SOS


class StateChecks:
    """Checks of a district. They begin at once.

    Args:
        folder: Folder of the site.
        group_size: Number of devices in each group of the site.
    """

    def __init__(
        self,
        folder: Path,
        group_size: int,
        scheduler: Scheduler,
        boards: Sequence[Board],
        hub: HubProcess,
        broker: SiteBroker,
        monitor: Monitor,
    ) -> None:
        self._groups_file, self._recordings_folder = folder / "state" / "shard-0" / "groups.json", folder / "recordings"
        self._scheduler, self._boards, self._hub, self._broker = scheduler, boards, hub, broker
        self._monitor, self._group_size = monitor, group_size
        self._differing_ms: dict[str, float] = {}  # how long a connected device has had other groups than the hub
        self._seatless_ms: dict[str, float] = {}  # how long a device that is not barred has had no seat
        self._unanswered_ms: dict[tuple[str, int], float] = {}  # since an SOS was closed and its wearer not shown that
        self._recordings = 0
        scheduler.after(_SAMPLE_MS, self._sample)

    def _sample(self) -> None:
        self._scheduler.after(_SAMPLE_MS, self._sample)
        if self._hub.hub is not None and self._broker.up and self._groups_file.is_file():
            groups = json.loads(self._groups_file.read_bytes())["groups"]
            for number, board in enumerate(self._boards):
                if self._monitor.is_barred(board.name):
                    self._check_seats(board, groups)
                elif board.has_voice and board.name not in self._monitor.barred:
                    site_group = number // self._group_size + 1
                    self._check_admitted(board, groups[str(site_group)]["seats"])
                    if board.is_connected:
                        self._check_terms(board, groups, site_group)
            if self._can_store:
                self._check_answers({board.name for board in self._boards if board.is_connected})
        recordings = sum(1 for _ in self._recordings_folder.glob("*/*.json"))
        if recordings < self._recordings:
            self._monitor.violate("evidence", f"recordings of today were deleted: {self._recordings - recordings}")
        self._recordings = recordings
        self._monitor.identities.check(set(self._monitor.barred))

    def _check_seats(self, board: Board, groups: dict[str, Any]) -> None:
        """Check that a barred device has left all groups, since the hub had time and space to store that."""
        self._seatless_ms.pop(board.name, None)
        if self._can_store:
            seats = [number for number, group in groups.items() if board.name in group["seats"]]
            if seats:
                self._monitor.violate("barred", f"{board.name} is barred, and a member of {', '.join(seats)}")

    def _check_admitted(self, board: Board, seats: dict[str, Any]) -> None:
        """Check that a device that is not barred has a seat in its group."""
        if board.name in seats or not self._can_store:
            self._seatless_ms.pop(board.name, None)
            return
        seatless_ms = self._seatless_ms[board.name] = self._seatless_ms.get(board.name, 0) + _SAMPLE_MS
        if seatless_ms == _ADMITTED_MS:
            self._monitor.violate(
                "barred", f"{board.name} is admitted, and has had no seat for {seatless_ms / 1000:.0f} s"
            )

    def _check_answers(self, connected: set[str]) -> None:
        """Check that a lost answer to an SOS is repeated."""
        for key in self._monitor.sos.unanswered():
            if key[0] in connected:
                waited_ms = self._unanswered_ms[key] = self._unanswered_ms.get(key, 0) + _SAMPLE_MS
                if waited_ms == _ANSWER_MS:
                    text = f"the wearer of {key[0]} has not been shown the end of SOS {key[1]}"
                    self._monitor.violate("sos answer", f"{text} for {waited_ms / 1000:.0f} s")

    @property
    def _can_store(self) -> bool:
        """Whether the hub has had time and space to store changes."""
        ready_ms = max(self._hub.ready_at_ms, self._monitor.storage_full_ms)
        return self._scheduler.now - ready_ms > _SEATS_MS and not self._monitor.storage_is_full

    def _check_terms(self, board: Board, groups: dict[str, Any], site_group: int) -> None:
        expected = {
            int(number): (group["key"], group["secret"], group["seats"][board.name])
            for number, group in groups.items()
            if board.name in group["seats"]
        }
        known = {group.number: (group.key, group._secret.hex(), group.floor.ssrc) for group in board.device.ptt.groups}
        if known == expected and site_group in known and self._monitor.identities.is_epoch_known(board.name):
            self._differing_ms.pop(board.name, None)
            return
        differing_ms = self._differing_ms[board.name] = self._differing_ms.get(board.name, 0) + _SAMPLE_MS
        if differing_ms == _TERMS_MS:
            text = f"{board.name} has not known its groups for {_TERMS_MS / 1000:.0f} s: {known}, not {expected}"
            self._monitor.violate("terms", text)
