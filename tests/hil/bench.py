"""A device rig whose board is emulated or real, according to its entry in hardware.toml, with a log of every UART."""

import contextlib
import time
from pathlib import Path
from typing import Any

from patrolink.core.errors import DeviceError, UserError
from patrolink.emulator.boards.firmware_device import FirmwareDevice
from patrolink.emulator.boards.process_device import Device, ProcessDevice

from tests.hil import health
from tests.hil.bench_device import RealBoard
from tests.hil.console import Console
from tests.hil.hardware import Entry, resolve
from tests.hil.switch import Switch
from tests.hil.wire import BOARD, BOTH, HOST, Wire
from tests.support.device_rig import DeviceRig
from tests.support.polling import TIMEOUT_S

_READY_S = float(TIMEOUT_S)


class Bench(DeviceRig):
    """A device rig on a board of hardware.toml.

    Attributes:
        boots: Number of times that the test has booted the board.
        folder: Folder of the logs.
    """

    def __init__(self, entry: Entry, console: Console, folder: Path, *args: Any, **kwargs: Any) -> None:
        self.entry, self.console, self.folder = entry, console, folder
        self.boots = 0
        self._wires: dict[str, Wire] = {}
        self._written_config: dict[str, Any] | None = None
        with contextlib.ExitStack() as stack:
            if entry.console:
                self._open_switches(entry, stack)
            super().__init__(args[0], entry.board, *args[1:], **kwargs)
            stack.push(self.stack)  # is closed before the switches
            self.stack = stack.pop_all()

    def _open_switches(self, entry: Entry, stack: contextlib.ExitStack) -> None:
        port = self.console.serial
        assert port is not None and entry.power is not None
        self._power = Switch(f"{entry.label}: power", entry.power, port)
        self._buttons = {name: Switch(f"{entry.label}: buttons.{name}", s, port) for name, s in entry.buttons.items()}
        for switch in (self._power, *self._buttons.values()):
            stack.callback(switch.close)

    def connect(self, name: str, path: str) -> Any:
        """Connect the board's UART to the port `path` through a logged wire. Returns the board's name of the UART."""
        wire = Wire(self.folder / f"{name}.log", HOST if name == "gps" else BOTH)
        self.stack.callback(wire.close)
        self._wires[name] = wire
        wire.port(HOST, path)
        if not self.entry.console:
            return wire.pty(BOARD)
        uart_port = getattr(self.entry, name)
        wire.port(BOARD, resolve(uart_port.port, f"{self.entry.label}: {name}.port"), self.board.gps.baud)
        return uart_port.uart

    def power_on(self, config: dict[str, Any]) -> Device | RealBoard:
        """Boot the board with this configuration and wait until it is ready.

        Raises:
            DeviceError: The board is not ready in time; the message contains the end of the console.
        """
        device = self._power_on_real(config) if self.entry.console else self._power_on_emulated(config)
        self.boots += 1
        try:
            deadline = time.monotonic() + _READY_S
            while self.console.find(health.READY, 0.1) is None:
                device.check()
                if time.monotonic() > deadline:
                    raise DeviceError(
                        f"{self.entry.label} is not ready after {_READY_S:g} s; the console ends with:\n"
                        f"{self.console.console_tail()}"
                    )
        except BaseException:
            device.kill()
            raise
        return device

    def _power_on_emulated(self, config: dict[str, Any]) -> Device:
        self.console.mark()
        work = self.tmp_path / "device"
        if self.board.image:
            return FirmwareDevice(self.board, work, config, self.console.board_path)
        device = ProcessDevice(self.board, work, config)
        self.console.wire.follow(device.log)
        return device

    def _power_on_real(self, config: dict[str, Any]) -> RealBoard:
        full_config = {"board": self.board.name, "state_dir": "/state", **config, **self.entry.config}
        if "modem" in full_config:
            # The reset line of the emulated modem is a file on the host, which a real board cannot reach.
            full_config["modem"] = {k: value for k, value in full_config["modem"].items() if k != "reset_pin"}
        new_config = None if full_config == self._written_config else full_config
        self._written_config = full_config
        return RealBoard(self.console, self._power, self._buttons, new_config)

    def input_consumed(self) -> bool:
        return super().input_consumed() and self._wires["gps"].idle()

    def problems(self) -> list[str]:
        """Return the problems of the board and its UARTs, one line each."""
        errors = [wire.error for wire in (self.console.wire, *self._wires.values()) if wire.error]
        return health.problems(self.console.console_text(self.console.origin), self.boots) + errors

    def power_off(self) -> list[str]:
        """Power the board off with its button, so that it prints its counters. Returns the problems."""
        try:
            self.device.check()
        except UserError:
            return []  # the board is already off or its agent has ended; `problems` evaluates the console
        if self.entry.skip_reason("buttons"):
            return []
        try:
            self.device.power_off()
        except UserError as e:
            return [str(e)]
        return []
