"""Firmware on a machine that QEMU emulates: its image, straps, flash chip and the command that starts it."""

import functools
import hashlib
import itertools
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patrolink.core import resources
from patrolink.core.boards import Board
from patrolink.core.errors import UserError
from patrolink.emulator.boards.device import end_with_parent

_MAGIC = 0x324B4C50  # straps_t in boards/mps2_an385/port/mps2.h
_CORES = itertools.count()
POWER_CUT = 86  # exit status when the straps' power cut has come
CONSOLE_UART, GPS_UART, MODEM_UART, CAMERA_UART, PANEL_UART = range(5)
PINS = {"sos": 0, "off": 1, "reset": 2, "indicator": 3}  # on the panel; buttons are low while pressed


def wired_config(board: Board, config: dict[str, Any]) -> dict[str, Any]:
    """Return a device's configuration with this board's UARTs and pins in place of the host's lines and files."""
    given = {"board": board.name, "state_dir": "/state", "watchdog": 60_000, **config, "gps_uart": GPS_UART}
    given["buttons"] = {name: PINS[name] for name in ("sos", "off")}
    if given.get("modem"):
        given["modem"] = {**given["modem"], "uart": MODEM_UART, "reset_pin": PINS["reset"]}
    if given.get("camera"):
        camera_wiring = {"source": CAMERA_UART, "indicator": PINS["indicator"]}
        given["camera"] = {**board.config().get("camera", {}), **given["camera"], **camera_wiring}
    return given


def press_sequence(button: str) -> bytes:
    """Return what the panel says when a button is pressed and let go."""
    pin = PINS[button]
    return bytes((pin | 0x80, pin, pin | 0x80))


def build_image(board: Board) -> Path:
    """Build the board's firmware, unless it is there, and return its path; UserError names the packages it needs."""
    if board.missing():
        raise UserError(
            f"board {board.name} needs tools that are not here; apt-get install {' '.join(board.missing())}"
        )
    return _built(board.name)


@functools.cache
def _built(name: str) -> Path:
    """One look for a whole fleet, and one image: sources may change while it starts."""
    recipe = resources.root() / "boards" / name / "build.sh"
    done = subprocess.run([str(recipe)], stdout=2)  # what it says is no data of ours
    if done.returncode:
        raise UserError(f"the firmware of board {name} could not be built (what is missing stands above)")
    return resources.root() / "build" / "images" / name / "firmware.elf"


@dataclass(frozen=True)
class Straps:
    """What the board finds at its reset.

    cut  the power goes in the flash operation after so many; -1: it stays
    """

    heap_kb: int
    flash_kb: int
    device: str
    epoch_s: int
    seed: int
    lockstep: bool = False
    cut: int = -1

    def pack(self) -> bytes:
        """Return them as the port reads them."""
        uid = hashlib.sha256(self.device.encode()).digest()[:12]
        return struct.pack(
            "<IIIIiIQ12s",
            *(_MAGIC, self.heap_kb, self.flash_kb, self.lockstep, self.cut, self.seed & 0xFFFFFFFF, self.epoch_s, uid),
        )


def command(board: Board, elf: Path, work: Path, straps: Straps) -> list[str]:
    """Return the command that starts the board in `work`, its UARTs not yet connected to anything."""
    assert board.image is not None
    (work / "straps.bin").write_bytes(straps.pack())
    # On one core: QEMU's threads wander otherwise, and a UART then takes 14 to 62 kB/s where it takes 70.
    cores = sorted(os.sched_getaffinity(0))
    pin = ["taskset", "-c", str(cores[next(_CORES) % len(cores)])] if shutil.which("taskset") else []
    return end_with_parent(
        [
            *pin,
            "qemu-system-arm",
            *("-M", f"{board.image.machine},memory-backend=flash"),
            *("-object", "memory-backend-file,id=flash,size=16M,mem-path=flash.bin,share=on"),
            *("-nodefaults", "-nic", "none", "-display", "none", "-semihosting"),
            *("-device", "loader,file=straps.bin,addr=0x01000000,force-raw=on"),
            *("-kernel", str(elf)),
        ]
    )
