"""Firmware on a machine that QEMU emulates: image, straps, flash chip and command line."""

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
from patrolink.core.progress import Progress
from patrolink.emulator.boards.device import end_with_parent

_MAGIC = 0x324B4C50  # straps_t in boards/mps2_an385/port/mps2.h
_CORES = itertools.count()
POWER_CUT = 86  # exit status at the power cut of the straps
CONSOLE_UART, GPS_UART, MODEM_UART, CAMERA_UART, PANEL_UART = range(5)
PINS = {"sos": 0, "off": 1, "reset": 2, "indicator": 3}  # pins of the panel; a pressed button is low


def wired_config(board: Board, config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a device with UARTs and pins of this board instead of lines and files of the host."""
    wired = {"board": board.name, "state_dir": "/state", "watchdog": 60_000, **config, "gps_uart": GPS_UART}
    wired["buttons"] = {name: PINS[name] for name in ("sos", "off")}
    if wired.get("modem"):
        wired["modem"] = {**wired["modem"], "uart": MODEM_UART, "reset_pin": PINS["reset"]}
    if wired.get("camera"):
        camera_wiring = {"source": CAMERA_UART, "indicator": PINS["indicator"]}
        wired["camera"] = {**board.config().get("camera", {}), **wired["camera"], **camera_wiring}
    return wired


def press_sequence(button: str) -> bytes:
    """Return the bytes that the panel sends when a button is pressed and released."""
    pin = PINS[button]
    return bytes((pin | 0x80, pin, pin | 0x80))


def build_image(board: Board) -> Path:
    """Build the firmware of a board if necessary and return its path.

    Raises:
        UserError: Tools are missing (the message names their packages) or the build failed.
    """
    if board.missing_packages():
        raise UserError(
            f"board {board.name} needs missing tools; run: apt-get install {' '.join(board.missing_packages())}"
        )
    return _built(board.name)


@functools.cache
def _built(name: str) -> Path:
    """Build once per process: all boards of a fleet run the same image, even if sources change meanwhile."""
    recipe = resources.root() / "boards" / name / "build.sh"
    build = resources.build_folder()
    environment = {**os.environ, "PATROLINK_BUILD": str(build)}
    # With bash: files of an installed package are not executable. The recipe's output is diagnostics.
    with Progress(f"firmware of {name}: build"):
        result = subprocess.run(["/bin/bash", str(recipe)], stdout=2, env=environment)
    if result.returncode:
        raise UserError(f"the firmware of board {name} could not be built; see the messages above")
    return build / "images" / name / "firmware.elf"


@dataclass(frozen=True)
class Straps:
    """Settings that the board reads at reset.

    Args:
        heap_kb: Heap of MicroPython in KiB.
        flash_kb: Size of the file system in KiB.
        device: Device id, from which the board derives its unique id.
        epoch_s: Start of the real-time clock, Unix time in seconds.
        seed: Seed of the random generator.
        lockstep: Whether UART traffic passes the lock-step link.
        cut: Number of flash operations after which the power is cut; -1 for never.
    """

    heap_kb: int
    flash_kb: int
    device: str
    epoch_s: int
    seed: int
    lockstep: bool = False
    cut: int = -1

    def pack(self) -> bytes:
        """Return the straps in the layout of `straps_t`."""
        uid = hashlib.sha256(self.device.encode()).digest()[:12]
        return struct.pack(
            "<IIIIiIQ12s",
            *(_MAGIC, self.heap_kb, self.flash_kb, self.lockstep, self.cut, self.seed & 0xFFFFFFFF, self.epoch_s, uid),
        )


def command(board: Board, elf: Path, work: Path, straps: Straps) -> list[str]:
    """Return the command that starts a board in `work`, with no UART connected."""
    assert board.image is not None
    (work / "straps.bin").write_bytes(straps.pack())
    # Pin QEMU to one core: if its threads migrate, a UART carries 14 to 62 kB/s instead of 70.
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
