"""Devices get new key epochs, and devices are copied, at random times that the seed determines."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards.virtual_hal import Reset
from patrolink.emulator.scenarios.district.board import Board
from patrolink.emulator.scenarios.district.faults import Attacker, DistrictFaults, RandomEvents
from patrolink.emulator.scenarios.district.invariants import Monitor

_COPY_MS = 60_000, 400_000  # how long a copy runs
_TALK_MS = 5_000, 40_000  # between two presses of who has the copy
_AT_REST = 0.5  # part of the copies that are made of a device without power: both begin with the same counter
_POLL_MS = 2000.0
_DRAIN_MAX_MS = 300_000.0  # a rotation is given up if the device has something left to send for this time


class IdentityFaults:
    """Rotates keys and copies devices.

    Args:
        seed: Seed of the choice.
        boards: The devices.
        keys_file: The site's keys.
        keys: Keys of the devices in their first epoch.
        copy: Makes a copy of a board, which starts at once.
        attacker: Has captured frames under the keys of earlier epochs.
    """

    def __init__(
        self,
        seed: int,
        events: RandomEvents,
        boards: list[Board],
        keys_file: Path,
        keys: Mapping[str, DeviceKey],
        copy: Callable[[Board], Board],
        attacker: Attacker,
        monitor: Monitor,
    ) -> None:
        self._random = random.Random(f"identities {seed}")
        self._events, self._scheduler, self._boards = events, events.scheduler, boards
        self._keys_file, self._keys = keys_file, dict(keys)
        self._make_copy, self._attacker, self._monitor = copy, attacker, monitor
        self._copies: dict[str, Board] = {}
        self._rotating: set[str] = set()

    def schedule(self, faults: DistrictFaults) -> None:
        """Let it happen from now on."""
        self._events.repeat(self._random, faults.copy_h, self._copy)
        for board in self._boards:
            self._events.repeat(board.random, faults.rotation_h, lambda board=board: self._rotate(board))  # type: ignore[misc]

    def end(self) -> None:
        """Switch all copies off."""
        for name in list(self._copies):
            self._end_copy(name)

    # --- key epochs ---------------------------------------------------------------------------------------------------

    def _rotate(self, board: Board) -> None:
        """Provision a device with its next key epoch as soon as the broker has everything that it has sealed."""
        if board.name not in self._rotating:
            self._rotating.add(board.name)
            self._wait_drained(board, self._scheduler.now + _DRAIN_MAX_MS)

    def _wait_drained(self, board: Board, deadline_ms: float) -> None:
        if board.is_drained:
            self._monitor.sums["key_epochs"] += 1
            board.begin_key_epoch()
            self._wait_known(board)
        elif self._scheduler.now < deadline_ms:
            self._scheduler.after(_POLL_MS, lambda: self._wait_drained(board, deadline_ms))
        else:
            self._rotating.discard(board.name)

    def _wait_known(self, board: Board) -> None:
        """Wait until the hub has followed. Then frames under the old key are repeated, and the key file may follow."""
        if not self._monitor.identities.is_epoch_known(board.name):
            self._scheduler.after(_POLL_MS, lambda: self._wait_known(board))
            return
        self._rotating.discard(board.name)
        self._attacker.replay_of(board.name)
        if self._random.random() < 0.5:
            self._keys[board.name] = self._keys[board.name]._replace(epoch=board.config["key_epoch"])
            lines = [
                f'{name} = {{ key = "{key.secret.hex()}", epoch = {key.epoch} }}' for name, key in self._keys.items()
            ]
            self._keys_file.write_text("\n".join(["[devices]", *lines, ""]))

    # --- copies -------------------------------------------------------------------------------------------------------

    def _copy(self) -> None:
        board = self._random.choice(self._boards)
        if board.device is None or board.name in self._copies:
            return
        self._monitor.sums["copies"] += 1
        self._monitor.identities.copied(board.name)
        self._monitor.cameras.excuse(board.name)
        if self._random.random() < _AT_REST:
            board.hal.end(Reset("copied"))
        copy = self._copies[board.name] = self._make_copy(board)
        self._talk(copy)
        self._scheduler.after(self._random.uniform(*_COPY_MS), lambda: self._end_copy(board.name))

    def _talk(self, copy: Board) -> None:
        """Let who has a copy with voice press its key now and then."""
        if copy.has_voice and self._copies.get(copy.name) is copy:
            copy.press_to_talk()
            self._scheduler.after(copy.random.uniform(*_TALK_MS), lambda: self._talk(copy))

    def _end_copy(self, name: str) -> None:
        copy = self._copies.pop(name, None)
        if copy is not None:
            copy.end()
            self._monitor.identities.copy_ended(name)
