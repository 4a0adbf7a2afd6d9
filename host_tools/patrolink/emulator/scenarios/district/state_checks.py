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
_TERMS_MS = 300_000.0  # in which a device that is connected has to know its groups and keys


class StateChecks:
    """Checks of a district. They begin at once.

    Args:
        folder: Folder of the site.
    """

    def __init__(
        self,
        folder: Path,
        scheduler: Scheduler,
        boards: Sequence[Board],
        hub: HubProcess,
        broker: SiteBroker,
        monitor: Monitor,
    ) -> None:
        self._groups_file, self._recordings_folder = folder / "state" / "shard-0" / "groups.json", folder / "recordings"
        self._scheduler, self._boards, self._hub, self._broker = scheduler, boards, hub, broker
        self._monitor = monitor
        self._differing_ms: dict[str, float] = {}  # how long a connected device has had other groups than the hub
        self._recordings = 0
        scheduler.after(_SAMPLE_MS, self._sample)

    def _sample(self) -> None:
        self._scheduler.after(_SAMPLE_MS, self._sample)
        if self._hub.hub is not None and self._broker.up and self._groups_file.is_file():
            groups = json.loads(self._groups_file.read_bytes())["groups"]
            for board in self._boards:
                if board.is_connected and board.has_voice and board.name not in self._monitor.barred:
                    self._check_terms(board, groups)
        recordings = sum(1 for _ in self._recordings_folder.glob("*/*.json"))
        if recordings < self._recordings:
            self._monitor.violate("evidence", f"recordings of today were deleted: {self._recordings - recordings}")
        self._recordings = recordings
        self._monitor.identities.check(set(self._monitor.barred))

    def _check_terms(self, board: Board, groups: dict[str, Any]) -> None:
        expected = {
            int(number): (group["key"], group["secret"], group["seats"][board.name])
            for number, group in groups.items()
            if board.name in group["seats"]
        }
        known = {group.number: (group.key, group._secret.hex(), group.floor.ssrc) for group in board.device.ptt.groups}
        if known == expected and self._monitor.identities.is_epoch_known(board.name):
            self._differing_ms.pop(board.name, None)
            return
        differing_ms = self._differing_ms[board.name] = self._differing_ms.get(board.name, 0) + _SAMPLE_MS
        if differing_ms == _TERMS_MS:
            text = f"{board.name} has not known its groups for {_TERMS_MS / 1000:.0f} s: {known}, not {expected}"
            self._monitor.violate("terms", text)
