"""Base class of emulated devices, firmware or process: a console, buttons and a power supply."""

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
    """Return a command whose process is killed when this process ends (Linux, `setpriv`)."""
    return ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command


class Device(ABC):
    """An emulated device.

    Attributes:
        log: Path of the console's log.
    """

    log: Path
    _process: "subprocess.Popen[bytes]"

    @abstractmethod
    def console_text(self) -> str:
        """Return the console output since power-on."""

    @abstractmethod
    def press(self, button: str) -> None:
        """Press a button of the board: `sos` or `off`."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return the summary that the device printed at power-off."""

    def check(self) -> None:
        """Check that the device is alive.

        Raises:
            DeviceError: The device has ended; the message holds the end of its console output.
        """
        code = self._process.poll()
        if code is not None:
            raise DeviceError(f"the device ended with status {code}; the console ends with:\n{self.console_tail()}")

    def console_tail(self) -> str:
        """Return the last lines of the console output."""
        return "\n".join("  " + line for line in self.console_text().splitlines()[-_LAST_LINES:])

    def off(self) -> bool:
        """Return whether the device has powered off.

        Raises:
            DeviceError: The device ended with an error status.
        """
        code = self._process.poll()
        if code:
            raise DeviceError(f"the device ended with status {code}; the console ends with:\n{self.console_tail()}")
        return code == 0

    def power_off(self, timeout_s: float = 30) -> dict[str, Any]:
        """Press the power button and return the summary of the device.

        Raises:
            DeadlineError: The device did not power off within `timeout_s`; it is killed.
        """
        self.press("off")
        deadline = time.monotonic() + timeout_s
        while not self.off():
            if time.monotonic() > deadline:
                self.kill()
                raise DeadlineError(
                    f"the device did not power off within {timeout_s:g} s; the console ends with:\n"
                    + self.console_tail()
                )
            time.sleep(_LOOK_S)
        return self.summary()

    @abstractmethod
    def kill(self) -> None:
        """Cut the power."""
