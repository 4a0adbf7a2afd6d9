"""A copy of a device, as somebody makes it who has read its storage: the same id, key and numbers."""

from patrolink.emulator.scenarios.district.board import Board


class CopiedBoard(Board):
    """A copy of another board. What it records is not expected."""

    sos_at_power_on = 0.0

    def copy_storage(self, original: Board) -> None:
        """Take over the content of the storage of another board, before the first boot."""
        self.hal.flash.files = {name: bytearray(data) for name, data in original.hal.flash.files.items()}
        self.config["key_epoch"] = original.config["key_epoch"]

    def _watch(self, device: object) -> None:
        """Observe nothing."""

    def _note_microphone(self, is_open: bool) -> None:
        """The wearer of the copy is not the one who is to be asked."""

    def _note_key(self) -> None:
        """That of the original was not pressed."""

    def _note_reset(self) -> None:
        """The original has not lost its memory."""

    def _note_log(self, text: str) -> None:
        self._monitor.log(self.name, f"| copy: {text}")

    def _show(self, text: str) -> None:
        """The wearer of the copy is not the one who is to be informed."""
