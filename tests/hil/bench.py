"""A rig whose board is emulated or real, as its entry in hardware.toml says, with a log of every line."""

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

_READY_S = 30.0


class Bench(DeviceRig):
    """`boots` counts the lives that the test has given the board; `folder` gets the logs."""

    def __init__(self, entry: Entry, console: Console, folder: Path, *args: Any, **kwargs: Any) -> None:
        self.entry, self.console, self.folder = entry, console, folder
        self.boots = 0
        self._wires: dict[str, Wire] = {}
        self._written: dict[str, Any] | None = None
        with contextlib.ExitStack() as stack:
            if entry.console:
                self._wire_switches(entry, stack)
            super().__init__(args[0], entry.board, *args[1:], **kwargs)
            stack.push(self.stack)  # goes before the switches do
            self.stack = stack.pop_all()

    def _wire_switches(self, entry: Entry, stack: contextlib.ExitStack) -> None:
        port = self.console.serial
        assert port is not None and entry.power is not None
        self._power = Switch(f"{entry.label}: power", entry.power, port)
        self._buttons = {name: Switch(f"{entry.label}: buttons.{name}", s, port) for name, s in entry.buttons.items()}
        for switch in (self._power, *self._buttons.values()):
            stack.callback(switch.close)

    def connect(self, name: str, path: str) -> Any:
        """Put a wire with a log between the board's UART and `path`."""
        wire = Wire(self.folder / f"{name}.log", HOST if name == "gps" else BOTH)
        self.stack.callback(wire.close)
        self._wires[name] = wire
        wire.port(HOST, path)
        if not self.entry.console:
            return wire.pty(BOARD)
        feed = getattr(self.entry, name)
        wire.port(BOARD, resolve(feed.port, f"{self.entry.label}: {name}.port"), self.board.gps.baud)
        return feed.uart

    def power_on(self, config: dict[str, Any]) -> Device | RealBoard:
        """Boot the board with this configuration and wait until it is ready; DeviceError with its console if not."""
        device = self._real(config) if self.entry.console else self._emulated(config)
        self.boots += 1
        try:
            deadline = time.monotonic() + _READY_S
            while self.console.find(health.READY, 0.1) is None:
                device.check()
                if time.monotonic() > deadline:
                    raise DeviceError(
                        f"{self.entry.label} is not ready after {_READY_S:g} s; it says:\n{self.console.console_tail()}"
                    )
        except BaseException:
            device.kill()
            raise
        return device

    def _emulated(self, config: dict[str, Any]) -> Device:
        self.console.mark()
        work = self.tmp_path / "device"
        if self.board.image:
            return FirmwareDevice(self.board, work, config, self.console.board_path)
        device = ProcessDevice(self.board, work, config)
        self.console.wire.follow(device.log)
        return device

    def _real(self, config: dict[str, Any]) -> RealBoard:
        given = {"board": self.board.name, "state_dir": "/state", **config, **self.entry.config}
        if "modem" in given:  # the emulated modem's reset line is a file here
            given["modem"] = {key: value for key, value in given["modem"].items() if key != "reset_pin"}
        fresh = None if given == self._written else given
        self._written = given
        return RealBoard(self.console, self._power, self._buttons, fresh)

    def spoken(self) -> bool:
        return super().spoken() and self._wires["gps"].idle()

    def problems(self) -> list[str]:
        """Return what was wrong with the board and its lines."""
        lost = [wire.lost for wire in (self.console.wire, *self._wires.values()) if wire.lost]
        return health.problems(self.console.console_text(self.console.origin), self.boots) + lost

    def power_off(self) -> list[str]:
        """Power the board off as its wearer does, which makes it tell what it has counted; return what went wrong."""
        try:
            self.device.check()
        except UserError:
            return []  # it is off, or has ended: its console tells why
        if self.entry.lacks("buttons"):
            return []
        try:
            self.device.power_off()
        except UserError as e:
            return [str(e)]
        return []
