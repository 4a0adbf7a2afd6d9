"""Method `uf2`: an RP2040 in its boot ROM, which is a USB drive; the firmware is copied to it as a UF2 file.

The boot ROM programs each block as it arrives. After the last one it restarts the board, and the drive disappears.
Boards in the boot ROM have neither a unique id nor a serial number: the device number of the drive stands for them.
"""

import errno
import os
import re
import threading
import time
from pathlib import Path

from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.core.text import plural, printable
from patrolink.flash import uf2
from patrolink.flash.flash_image import FlashImage
from patrolink.flash.method import Method, Report
from patrolink.flash.records import Identity, Plan, RefusedError

_BOARD_ID, _FAMILY, _ADDRESS = "RPI-RP2", uf2.RP2040, 0x10000000
_INFO_BYTES_MAX = 4096
_CHUNK_BYTES = 64 << 10
_RESTART_S, _LOOK_S = 20.0, 0.1
_DRIVE_REMOVED = (
    errno.EIO,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENXIO,
)  # the board has restarted before the file was closed


class Uf2Method(Method):
    """Writes a platform image.

    Args:
        port: Folder at which the drive is mounted.
        cancel: Set when the operator stops the command.
        image: The image; its content is a binary or a UF2 file.
    """

    def __init__(self, port: str, cancel: threading.Event, image: FlashImage) -> None:
        super().__init__(port, cancel)
        self._drive, self._image = Path(port), image
        content = image.content
        self._file = content if uf2.is_uf2(content) else uf2.make(content, _ADDRESS, _FAMILY)

    def identify(self) -> Identity:
        """See `Method.identify`."""
        try:
            with (self._drive / "INFO_UF2.TXT").open("rb") as file:
                text = file.read(_INFO_BYTES_MAX).decode(errors="replace")
            device = os.stat(self._drive).st_dev
        except OSError as e:
            raise DeviceError(
                f"{self.port}: no drive of a boot loader (INFO_UF2.TXT: {e.strerror}); hold the BOOTSEL button while "
                "the board is plugged in, mount its drive, then repeat the command"
            ) from None
        board = re.search(r"^Board-ID: *(\S+)", text, re.MULTILINE)
        return Identity(unique_id=f"drive-{device}", chip=printable(board[1]) if board else "")

    def plan(self, identity: Identity) -> Plan:
        """See `Method.plan`."""
        if identity.chip != _BOARD_ID:
            raise RefusedError(
                f"{self.port}: this drive is of {identity.chip or 'an unknown board'}, but the image is for "
                f"{_BOARD_ID}; use an image for this board"
            )
        if uf2.families(self._file) != {_FAMILY}:
            raise RefusedError(f"{self._image.path}: its UF2 file is damaged or for another chip; build it again")
        return Plan(f"{self._image.label}, {plural(len(self._file), 'byte')} of UF2", len(self._file))

    def write(self, plan: Plan, report: Report) -> None:
        """See `Method.write`."""
        done = 0
        try:
            with (self._drive / "PATROLNK.UF2").open("wb", buffering=0) as file:
                while done < len(self._file):
                    self.check_cancelled()
                    done += file.write(self._file[done : done + _CHUNK_BYTES])
                    report(done, len(self._file))
                os.fsync(file.fileno())
        except OSError as e:
            if done < len(self._file) or e.errno not in _DRIVE_REMOVED:
                raise DeviceError(
                    f"{self.port}: {e.strerror} after {plural(done, 'byte')}; plug the board in again with "
                    "BOOTSEL, then repeat"
                ) from None

    def verify(self, plan: Plan) -> None:
        """See `Method.verify`: the boot ROM restarts the board only after it has programmed every block."""
        deadline_s = time.monotonic() + _RESTART_S
        while self._is_mounted():
            self.check_cancelled()
            if time.monotonic() > deadline_s:
                raise DeadlineError(
                    f"{self.port}: the board did not restart within {_RESTART_S:g} s, so it lacks blocks; plug it in "
                    "again with BOOTSEL, then repeat the command"
                )
            self._cancel.wait(_LOOK_S)

    def _is_mounted(self) -> bool:
        try:
            os.stat(self._drive / "INFO_UF2.TXT")
        except OSError as e:  # Path.exists raises it if a drive goes during the call
            if e.errno not in _DRIVE_REMOVED and e.errno != errno.ENOTDIR:
                remedy = "plug the board in again with BOOTSEL, then repeat"
                raise DeviceError(f"{self.port}: {e.strerror}; {remedy}") from None
            return False
        return True

    def release(self) -> None:
        """See `Method.release`: the board has restarted."""

    def close(self) -> None:
        """See `Method.close`: no file is open between the steps."""
