"""Switches of a lab: the power supply of a board, and its buttons, which are on while pressed."""

import subprocess
import time
from collections.abc import Callable

import serial
from patrolink.core.errors import DeviceError

from tests.hil.hardware import SwitchSpec, resolve

_COMMAND_S = 30.0
_OFF_S = 1.0  # until the capacitors of a board are discharged


class Switch:
    """A switch operated by a command or by a line of a serial port.

    The constructor does not change the state of the switch, with one exception: opening another port than the console
    switches its line off.

    Args:
        name: Name for error messages.
        spec: Entry of hardware.toml. A command receives `on` or `off` as its last word.
        console: Console port of the board, used when the entry has a line but no port.

    Raises:
        DeviceError: The port cannot be opened.
    """

    def __init__(self, name: str, spec: SwitchSpec, console: serial.Serial) -> None:
        self._name, self._spec = name, spec
        self._port = console
        if spec.port:
            self._port = serial.Serial()
            self._port.port = resolve(spec.port, f"{name}.port")
            self._port.dtr = self._port.rts = spec.inverted
            try:
                self._port.open()
            except (serial.SerialException, OSError) as e:
                raise DeviceError(f"{name}: {e}; `patrolink devices` lists the ports") from None

    def set(self, on: bool) -> None:
        """Switch on or off.

        Raises:
            DeviceError: The command fails.
        """
        if self._spec.line:
            setattr(self._port, self._spec.line, on != self._spec.inverted)
            return
        assert self._spec.command is not None
        command = [*self._spec.command, "on" if on else "off"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_COMMAND_S)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise DeviceError(f"{self._name}: {e}; correct the command in hardware.toml") from None
        if done.returncode:
            output = (done.stderr or done.stdout).strip()
            raise DeviceError(f"{self._name}: {' '.join(command)!r} ended with {done.returncode}: {output}")

    def on(self) -> None:
        self.set(True)

    def off(self) -> None:
        self.set(False)

    def cycle(self, while_off: Callable[[], None] = lambda: None) -> None:
        """Switch off and on again; `while_off` is called in between."""
        self.off()
        time.sleep(_OFF_S)
        while_off()
        self.on()

    def close(self) -> None:
        if self._spec.port:
            self._port.close()
