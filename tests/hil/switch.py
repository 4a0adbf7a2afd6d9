"""What a lab turns on and off: a board's power, and its buttons, which are on while pressed."""

import subprocess
import time
from collections.abc import Callable

import serial
from patrolink.core.errors import DeviceError

from tests.hil.hardware import SwitchSpec, resolve

_COMMAND_S = 30.0
_OFF_S = 1.0  # what a board's capacitors hold


class Switch:
    """`set`, `on`, `off`, `cycle`, by a command that gets `on` or `off` as its last word or by a serial port's line.

    console  the board's own console, whose line is meant when the specification names no other port
    """

    def __init__(self, name: str, spec: SwitchSpec, console: serial.Serial) -> None:
        """Leave it as it is, but for a line of another port: that is off once the port is open."""
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
        """Turn it; DeviceError when the command does not do it."""
        if self._spec.line:
            setattr(self._port, self._spec.line, on != self._spec.inverted)
            return
        assert self._spec.command is not None
        command = [*self._spec.command, "on" if on else "off"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_COMMAND_S)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise DeviceError(f"{self._name}: {e}; mend its command in hardware.toml") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise DeviceError(f"{self._name}: {' '.join(command)!r} ended with {done.returncode}: {said}")

    def on(self) -> None:
        self.set(True)

    def off(self) -> None:
        self.set(False)

    def cycle(self, between: Callable[[], None] = lambda: None) -> None:
        """Off and on again; `between` is called while it is off."""
        self.off()
        time.sleep(_OFF_S)
        between()
        self.on()

    def close(self) -> None:
        if self._spec.port:
            self._port.close()
