"""From an erased chip to a running agent, by the methods `uf2` and `serial` of `patrolink flash`."""

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.core.text import plural
from patrolink.emulator.boards.pico.board import PicoBoard
from patrolink.flash import flash_image
from patrolink.flash.method import Method
from patrolink.flash.methods.serial_console import SerialMethod
from patrolink.flash.methods.uf2 import Uf2Method

BOARD = "rpi_pico"
_READY = b"device: ready"
_READY_MS = 20_000


def default_config() -> dict[str, Any]:
    """Return a device configuration for the board's wiring."""
    wiring = boards.find(BOARD).wiring
    assert wiring is not None and wiring.modem is not None
    config = wiring.model_dump(exclude_none=True)
    config["modem"]["apn"] = "internet"
    broker = {"host": "broker.example", "port": 1883}
    return {"device": "pico-1", "key": "00" * 32, "broker": broker, "state_dir": "/state", **config}


class BringUp:
    """The steps.

    Args:
        platform: Platform image of the board.
        agent: Signed agent image of the board.
        config: Device configuration, or None for the default one.

    Attributes:
        board: The board, from the first step on.
        console_text: What the agent has written, after the last step.

    Raises:
        UserError: An image cannot be used.
    """

    def __init__(self, platform: Path, agent: Path, config: dict[str, Any] | None = None) -> None:
        self._platform, self._agent = flash_image.load(platform), flash_image.load(agent)
        self._config = config or default_config()
        self.board: PicoBoard | None = None
        self.console_text = ""

    @property
    def emulated_s(self) -> float:
        """Emulated time since power-on."""
        return self.board.chip.now_ns / 1e9 if self.board else 0.0

    def steps(self) -> Iterator[str]:
        """Carry out the steps, and describe each one when it is done.

        Raises:
            DeviceError: The board fails.
            DeadlineError: The board does not answer.
            RefusedError: The board refuses an image.
        """
        self.board = board = PicoBoard()
        if not board.is_drive:
            raise DeviceError("emulated Pico: an erased chip has not stayed in its boot ROM")
        yield "the boot ROM finds an erased chip and is a drive"
        yield self._write_platform(board)
        board.run_program(f"f = open('/config.json', 'w')\nf.write({json.dumps(self._config)!r})\nf.close()")
        yield f"configured; the agent in the platform starts: {self._ready(board)}"
        method = SerialMethod("emulated Pico", threading.Event(), self._agent, open_link=board.open_link)
        size = _flash(method)
        board.restart()
        yield f"method serial has written {plural(size, 'byte')} into a slot"
        ready = self._ready(board)
        if "\nslot " not in ready:
            raise DeviceError(f"emulated Pico: the agent has not started from a slot:\n{ready}")
        yield "the agent in the slot is ready"
        self.console_text = ready

    def _write_platform(self, board: PicoBoard) -> str:
        with tempfile.TemporaryDirectory(prefix="patrolink-pico-") as name:
            drive = Path(name)
            info = drive / "INFO_UF2.TXT"
            info.write_bytes(board.info())
            method = Uf2Method(name, threading.Event(), self._platform)
            plan = method.plan(method.identify())
            method.write(plan, lambda done, total: None)
            (file,) = drive.glob("*.UF2")
            data = file.read_bytes()
            board.write_uf2(data)
            info.unlink()  # the drive is gone
            method.verify(plan)
        return f"method uf2 has written {plural(len(data), 'byte')}; MicroPython runs"

    def _ready(self, board: PicoBoard) -> str:
        board.console.wait_for(_READY, _READY_MS)
        return board.console.output.decode(errors="replace").replace("\r\n", "\n").rstrip()


def _flash(method: Method) -> int:
    """Identify, plan, write, verify and release; return the number of bytes of the image."""
    try:
        plan = method.plan(method.identify())
        method.write(plan, lambda done, total: None)
        method.verify(plan)
        method.release()
    finally:
        method.close()
    return plan.bytes
