"""A real board with the interface of an emulated one, see process_device.py."""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from patrolink.core.errors import DeadlineError, DeviceError

from tests.hil import health
from tests.hil.console import Console
from tests.hil.switch import Switch

_BOOT_S = 5.0
_PRESS_S = 0.1
_AGENT_ENDED = ("Traceback", "FAULT", ">>> ")


class RealBoard:
    """A real board. The constructor powers it on.

    Args:
        console: Console of the board.
        power: Switch of its power supply.
        buttons: Switches of its buttons, by name.
        config: Configuration to write over the REPL first, after the state of earlier tests is removed. None keeps the
            configuration and state of the board.

    Attributes:
        log: Path of the console's log.
    """

    def __init__(self, console: Console, power: Switch, buttons: dict[str, Switch], config: dict[str, Any] | None):
        self.log = console.log
        self._console, self._power, self._buttons = console, power, buttons
        if config is not None:
            self._provision(config)
        self._power.cycle(lambda: console.mark(origin=config is not None))
        self._on = True

    def _provision(self, config: dict[str, Any]) -> None:
        console = self._console
        self._power.cycle(console.mark)
        console.find(r"\n", _BOOT_S)  # not every board prints something at boot
        if "state/" in console.mpremote("fs", "ls", ":/"):
            console.mpremote("fs", "rm", "-r", ":/state")
        with tempfile.TemporaryDirectory(prefix="patrolink-") as folder:
            path = Path(folder) / "config.json"
            # 0600: the file contains the key.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
                json.dump(config, f)
            console.mpremote("fs", "cp", str(path), ":/config.json")

    def check(self) -> None:
        """Check that the board is on and its agent runs.

        Raises:
            DeviceError: The board is off, its agent has ended, or its console is lost.
        """
        text = self._console.console_text()
        error = self._console.wire.error
        if not self._on or error or any(word in text for word in _AGENT_ENDED):
            reason = error or ("the agent has ended" if self._on else "the board is off")
            raise DeviceError(f"{reason}; the console ends with:\n{self._console.console_tail()}")

    def press(self, button: str) -> None:
        """Press a button of the board: `sos` or `off`."""
        self.check()
        self._buttons[button].on()
        time.sleep(_PRESS_S)
        self._buttons[button].off()

    def power_off(self, timeout_s: float = 30) -> dict[str, Any]:
        """Press the power button and return the summary that the device prints.

        Raises:
            DeadlineError: No complete summary within `timeout_s`.
        """
        self.press("off")
        summary = self._console.find(health.SUMMARY, timeout_s)
        tail = self._console.console_tail()
        self.kill()
        if summary is None:
            raise DeadlineError(f"the board did not power off within {timeout_s:g} s; the console ends with:\n{tail}")
        counters: dict[str, Any] = json.loads(summary)
        return counters

    def kill(self) -> None:
        """Switch the power off."""
        if self._on:
            self._power.off()
            self._on = False
