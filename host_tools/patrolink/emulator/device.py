"""The device of an emulated board: the agent itself, with a console and a power button."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from patrolink import home
from patrolink.boards import Board
from patrolink.emulator.firmware import Firmware
from patrolink.errors import DeadlineError, DeviceError

_LAST_LINES = 8


class Process:
    """Started by the constructor. `log` is the path of its console."""

    def __init__(self, board: Board, work: Path, config: dict[str, Any]) -> None:
        """Write CONFIG.json (mode 0600: it holds the key) into `work` and boot."""
        work.mkdir(parents=True, exist_ok=True)
        path = work / "config.json"
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            json.dump({"board": board.name, "state_dir": str(work / "state"), **config}, f)
        command = home.interpreter(board.runtime)
        if board.runtime == "micropython" and board.heap_kb:
            command += ["-X", f"heapsize={board.heap_kb}K"]
        command += [str(home.root() / "device" / "main.py"), str(path)]
        self.log = work / "console.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    def check(self) -> None:
        """DeviceError with its last words when the device has died."""
        code = self._process.poll()
        if code is not None:
            raise DeviceError(f"the device ended with exit code {code}; its console says:\n{self._tail()}")

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join("  " + line for line in lines[-_LAST_LINES:])

    def press(self, button: str) -> None:
        """Press a button of the board: `sos`."""
        self.check()
        assert self._process.stdin is not None
        self._process.stdin.write(button.encode() + b"\n")
        self._process.stdin.flush()

    def power_off(self, timeout_s: float = 30) -> dict[str, Any]:
        """Press the power button and return the device's own summary; DeadlineError when it does not come to rest."""
        self.check()
        try:
            out, _ = self._process.communicate(b"off\n", timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DeadlineError(
                f"the device did not power off within {timeout_s:g} s; its console says:\n{self._tail()}"
            ) from None
        if self._process.returncode != 0:
            raise DeviceError(f"the device ended with exit code {self._process.returncode}:\n{self._tail()}")
        summary: dict[str, Any] = json.loads(out.splitlines()[-1])
        return summary

    def kill(self) -> None:
        """Take the power away."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


Device = Process | Firmware


def boot(board: Board, work: Path, config: dict[str, Any]) -> Device:
    """Power a board on: firmware where it has an image, else a process. `config` names lines by their paths here."""
    return (Firmware if board.image else Process)(board, work, config)
