"""A device that runs as a process of this machine."""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from patrolink.core import resources
from patrolink.core.boards import Board
from patrolink.emulator.boards import deployment
from patrolink.emulator.boards.device import Device, end_with_parent
from patrolink.emulator.boards.firmware_device import FirmwareDevice

_RECORDED_FLOOR_DAY = 14610  # 2010-01-01


class ProcessDevice(Device):
    """The agent as a process; the constructor starts it.

    Args:
        board: Board without an image.
        work: Folder for configuration, state and console log.
        config: Configuration of the device.
    """

    def __init__(self, board: Board, work: Path, config: dict[str, Any]) -> None:
        """Write config.json into `work`, with mode 0600 because it holds the key, and start the agent."""
        work.mkdir(parents=True, exist_ok=True)
        path = work / "config.json"
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            defaults = board.config()
            parts = {"ptt": {**defaults.get("ptt", {}), **config.get("ptt", {})}}
            if config.get("camera"):
                parts["camera"] = {**defaults.get("camera", {}), **config["camera"]}
            json.dump({"board": board.name, "state_dir": str(work / "state"), **config, **parts}, f)
        command = resources.interpreter(board.runtime)
        heap_kb = board.heap(config)
        if board.runtime == "micropython" and heap_kb:
            command += ["-X", f"heapsize={heap_kb}K"]
        command += [str(deployment.agent_main(board.runtime)), str(path)]
        self.log = work / "console.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                end_with_parent(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def console_text(self) -> str:
        """See `Device.console_text`."""
        return self.log.read_text(errors="replace")

    def press(self, button: str) -> None:
        """See `Device.press`."""
        self.check()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the device has just ended; the next check reports it
            self._process.stdin.write(button.encode() + b"\n")
            self._process.stdin.flush()

    def summary(self) -> dict[str, Any]:
        """See `Device.summary`."""
        assert self._process.stdout is not None
        summary: dict[str, Any] = json.loads(self._process.stdout.read().splitlines()[-1])
        return summary

    def kill(self) -> None:
        """See `Device.kill`."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def boot(board: Board, work: Path, config: dict[str, Any]) -> Device:
    """Power a board on, as firmware under QEMU if it has an image, otherwise as a process.

    Its receiver may play a recorded track: unless `config` says otherwise, dates from 2010 on are believed.
    """
    config = {"date_floor": _RECORDED_FLOOR_DAY, **config}
    return (FirmwareDevice if board.image else ProcessDevice)(board, work, config)
