"""A copy of a device, as somebody makes it who has read its storage: the same id, key and numbers."""

from collections.abc import Callable

from patrolink.core.keys import DeviceKey
from patrolink.emulator.network.carrier import Dial, Profile
from patrolink.emulator.scenarios.district.board import Board
from patrolink.emulator.scenarios.district.invariants import Monitor
from patrolink.emulator.scheduler import Scheduler


class CopiedBoard(Board):
    """A copy of another board, with the content of its storage at this time. What it records is not expected.

    Args:
        original: The other board.

    The other arguments are those of Board.
    """

    sos_at_power_on = 0.0

    def __init__(
        self,
        original: Board,
        number: int,
        seed: int,
        key: DeviceKey,
        site: str,
        profile: Profile,
        scheduler: Scheduler,
        dial: Dial,
        monitor: Monitor,
        unix_ms: Callable[[], int],
        fix_s: float,
    ) -> None:
        super().__init__(number, seed, original.name, key, site, profile, scheduler, dial, monitor, unix_ms, fix_s, b"")
        self.hal.flash.files = {name: bytearray(data) for name, data in original.hal.flash.files.items()}
        self.config["key_epoch"] = original.config["key_epoch"]

    def _watch(self, device: object) -> None:
        """Observe nothing."""

    def _note_reset(self) -> None:
        """The original has not lost its memory."""

    def _show(self, text: str) -> None:
        """The wearer of the copy is not the one who is to be informed."""
