"""A device whose firmware runs on an emulated board in real time (`process_device` holds the one that is a process)."""

import json
import re
import secrets
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from patrolink.core.boards import Board
from patrolink.core.errors import DeviceError
from patrolink.emulator.boards import qemu
from patrolink.emulator.boards.device import Device
from patrolink.emulator.peripherals import flash


class FirmwareDevice(Device):
    """Firmware under QEMU; the constructor powers it on.

    The configuration is the one of a device process: the serial lines in it are connected to UARTs of the board, the
    files of its outputs (reset line, indicator) follow pins of the board.

    Args:
        board: Board with an image.
        work: Folder for flash chip, straps and console log.
        config: Configuration of the device.
        console: Path of a PTY for the console; None creates one.

    Attributes:
        console: Path of the console's PTY.
    """

    def __init__(self, board: Board, work: Path, config: dict[str, Any], console: str | None = None) -> None:
        heap_kb = board.heap(config)
        assert board.image is not None and heap_kb is not None
        elf = qemu.build_image(board)
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = {qemu.GPS_UART: config["gps_uart"]}
        self._outputs: dict[int, str] = {}
        if config.get("modem"):
            lines[qemu.MODEM_UART] = config["modem"]["uart"]
            if config["modem"].get("reset_pin"):
                self._outputs[qemu.PINS["reset"]] = config["modem"]["reset_pin"]
        if config.get("camera"):
            lines[qemu.CAMERA_UART] = config["camera"]["source"]
            self._outputs[qemu.PINS["indicator"]] = config["camera"]["indicator"]
        content = json.dumps(qemu.wired_config(board, config)).encode()
        flash.provision(work / "flash.bin", board.image.flash_kb, "/config.json", content)
        straps = qemu.Straps(heap_kb, board.image.flash_kb, config["device"], int(time.time()), secrets.randbits(32))
        self.log = work / "console.log"
        self.log.touch()
        self._begin = self.log.stat().st_size
        self._panel, board_end = socket.socketpair()
        kind = f"serial,path={console}" if console else "pty"
        arguments = ["-chardev", f"{kind},id=u0,logfile={self.log.resolve()},logappend=on", "-serial", "chardev:u0"]
        for uart in (qemu.GPS_UART, qemu.MODEM_UART, qemu.CAMERA_UART):
            kind = f"serial,path={lines[uart]}" if uart in lines else "null"
            arguments += ["-chardev", f"{kind},id=u{uart}", "-serial", f"chardev:u{uart}"]
        arguments += ["-chardev", f"socket,fd={board_end.fileno()},id=u4", "-serial", "chardev:u4"]
        self._process = subprocess.Popen(
            [*qemu.command(board, elf, work, straps), *arguments],
            cwd=work,
            pass_fds=[board_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        board_end.close()
        self._pins = threading.Thread(target=self._follow_pins, daemon=True, name="panel")
        self._pins.start()
        try:
            self.console = console or self._console()
        except BaseException:
            self.kill()
            raise

    def _console(self) -> str:
        """Return the path of the PTY that QEMU created for UART 0."""
        assert self._process.stdout is not None
        output = b""
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise DeviceError(f"QEMU did not start:\n{output.decode(errors='replace')}")
            match = re.search(rb"redirected to (\S+)", line)
            if match:
                return match[1].decode()
            output += line

    def _follow_pins(self) -> None:
        while True:
            try:
                data = self._panel.recv(64)
            except OSError:
                return
            if not data:
                return
            for c in data:
                if c & 0x7F in self._outputs:
                    Path(self._outputs[c & 0x7F]).write_text(str(c >> 7))

    def console_text(self) -> str:
        """See `Device.console_text`."""
        with self.log.open("rb") as f:
            f.seek(self._begin)
            return f.read().decode(errors="replace")

    def check(self) -> None:
        """Check that the board is on and its agent is running.

        Raises:
            DeviceError: It is not; the message holds the end of the console output.
        """
        super().check()
        text = self.console_text()
        if "Traceback" in text or "FAULT" in text or ">>> " in text:
            raise DeviceError(f"the agent has ended; the console ends with:\n{self.console_tail()}")

    def press(self, button: str) -> None:
        """See `Device.press`."""
        self.check()
        self._panel.sendall(qemu.press_sequence(button))

    def summary(self) -> dict[str, Any]:
        """See `Device.summary`."""
        summary: dict[str, Any] = json.loads([line for line in self.console_text().splitlines() if line[:1] == "{"][-1])
        return summary

    def kill(self) -> None:
        """See `Device.kill`."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._panel.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
