"""Which method writes an image to a board, and with which settings."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from patrolink.core.boards import Board
from patrolink.core.errors import UserError
from patrolink.flash.flash_image import AGENT, FlashImage
from patrolink.flash.method import Factory
from patrolink.flash.methods.esptool import EsptoolMethod, require_esptool
from patrolink.flash.methods.linux_ssh import LinuxMethod
from patrolink.flash.methods.serial_console import SerialMethod
from patrolink.flash.methods.uf2 import Uf2Method

METHODS = ("serial", "esptool", "uf2", "linux")
# Port of MicroPython: chip as esptool names it, and address of the firmware in its flash.
_ESP_CHIPS = {"esp32": ("ESP32", 0x1000)}


def default_method(image: FlashImage, board: Board) -> str:
    """Return the method for an image: its loader for a platform image, console or ssh for an agent image.

    Raises:
        UserError: The board has no method for it.
    """
    if image.header.kind == AGENT:
        return "linux" if board.runtime == "cpython" else "serial"
    if board.runtime == "cpython":
        raise UserError(
            f"the platform of board {board.name} is a Debian package; `make image BOARD={board.name}` builds it, and "
            "`apt-get install ./patrolink-platform.deb` on the camera installs it"
        )
    if board.flash == "none":
        raise UserError(
            f"board {board.name} is emulated and takes no platform image; `make image BOARD={board.name}` builds its "
            "firmware"
        )
    return board.flash


@contextlib.contextmanager
def method_factory(name: str, image: FlashImage, board: Board, patient: bool = False) -> Iterator[Factory]:
    """Return a function that makes the method object of a port.

    Args:
        name: Name of the method.
        image: The image.
        board: Its board.
        patient: Wait for a board that has to be switched off and on; only with the method serial.

    Raises:
        UserError: The method cannot write this image.
    """
    if name in ("serial", "linux"):
        if image.header.kind != AGENT:
            raise UserError(
                f"{image.path}: the method {name} writes agent images, and this is {image.label}; use --method "
                f"{board.flash}"
            )
        if name != default_method(image, board):
            raise UserError(f"the method {name} does not reach board {board.name}; leave --method out")
        if board.update is None:
            raise UserError(
                f"board {board.name} has no slots for agent images ([update] in its board.toml); use the agent that is "
                "frozen in its firmware"
            )
        if name == "linux":
            yield lambda port, cancel: LinuxMethod(port, cancel, image)
        else:
            yield lambda port, cancel: SerialMethod(port, cancel, image, patient)
        return
    if image.header.kind == AGENT:
        raise UserError(f"{image.path}: the method {name} writes platform images, and this is {image.label}")
    if name != board.flash:
        raise UserError(f"the method {name} does not reach board {board.name}; leave --method out")
    if name == "uf2":
        yield lambda port, cancel: Uf2Method(port, cancel, image)
        return
    assert board.port is not None
    require_esptool()
    chip, address = _ESP_CHIPS[board.port]
    handle, path = tempfile.mkstemp(prefix="patrolink-flash-", suffix=".bin")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(image.content)
        yield lambda port, cancel: EsptoolMethod(port, cancel, chip, Path(path), address, image.label)
    finally:
        os.unlink(path)
