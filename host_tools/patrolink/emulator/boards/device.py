"""What every emulated device has, firmware or process: a console, buttons, and a power that can go."""

import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from patrolink.core.errors import DeadlineError, DeviceError

_LAST_LINES = 8
_LOOK_S = 0.02


def end_with_parent(command: list[str]) -> list[str]:
    """Return the command so that it ends with us, however we end."""
    return ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command


class Device(ABC):
    """`log` is the path of its console's log."""

    log: Path
    _process: "subprocess.Popen[bytes]"

    @abstractmethod
    def console_text(self) -> str:
        """Return what its console has said since the power came."""

    @abstractmethod
    def press(self, button: str) -> None:
        """Press a button of the board: `sos` or `off`."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return the summary that it left when it went off."""

    def check(self) -> None:
        """DeviceError with its last words when the device has died."""
        code = self._process.poll()
        if code is not None:
            raise DeviceError(f"the device ended with status {code}; its console says:\n{self.console_tail()}")

    def console_tail(self) -> str:
        """Return its last words."""
        return "\n".join("  " + line for line in self.console_text().splitlines()[-_LAST_LINES:])

    def off(self) -> bool:
        """True once it is off; DeviceError with its last words when it did not go off as planned."""
        code = self._process.poll()
        if code:
            raise DeviceError(f"the device ended with status {code}; its console says:\n{self.console_tail()}")
        return code == 0

    def power_off(self, timeout_s: float = 30) -> dict[str, Any]:
        """Press the power button and return the device's own summary; DeadlineError when it does not come to rest."""
        self.press("off")
        deadline = time.monotonic() + timeout_s
        while not self.off():
            if time.monotonic() > deadline:
                self.kill()
                raise DeadlineError(
                    f"the device did not power off within {timeout_s:g} s; its console says:\n{self.console_tail()}"
                )
            time.sleep(_LOOK_S)
        return self.summary()

    @abstractmethod
    def kill(self) -> None:
        """Take the power away."""
