"""Emulated mps2_an385 boards in real time, with their console on a PTY; without a configuration it is a REPL."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from patrolink.core import boards
from patrolink.emulator.boards import qemu
from patrolink.emulator.peripherals import flash

_HEAP_KB = 256


class ReplBoard:
    """A board; the constructor powers it on.

    Args:
        folder: Folder of its flash chip, which is empty at first and keeps its content over power cycles.
        name: Device id.
        flash_kb: Size of its file system.
        heap_kb: Heap of MicroPython.
        config: Configuration to write into its file system.
        uarts: UARTs that are connected to PTYs, from that of the console on.

    Attributes:
        chip: File of its flash chip.
        path: PTY of its console.
        paths: PTYs of its UARTs, by number.
        log: File with all output of the console.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        flash_kb: int = 2048,
        heap_kb: int = _HEAP_KB,
        config: dict[str, Any] | None = None,
        uarts: int = 1,
    ) -> None:
        board = boards.find("mps2_an385")
        folder.mkdir(parents=True, exist_ok=True)
        self.chip = folder / "flash.bin"
        self.chip.touch()
        if config is not None:
            flash.provision(self.chip, flash_kb, "/config.json", json.dumps(config).encode())
        self.log = folder / "console.log"
        straps = qemu.Straps(heap_kb, flash_kb, name, 0, 1)
        # The UART of QEMU holds one byte, and two threads hand each byte over: 13 us of CPU time. The 32 bytes that a
        # multiplexer buffers make it a UART with a FIFO. No byte is 256, so nothing is taken for its escape character.
        lines = ["-echr", "256", "-chardev", f"pty,id=u0,mux=on,logfile={self.log},logappend=on"]
        for i in range(1, uarts):
            lines += ["-chardev", f"pty,id=u{i},mux=on"]
        for i in range(uarts):
            lines += ["-serial", f"chardev:u{i}"]
        self._process = subprocess.Popen(
            [*qemu.command(board, qemu.build_image(board), folder, straps), *lines],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        self.paths: list[str] = []
        for _ in range(uarts):
            line = self._process.stdout.readline()
            match = re.search(rb"redirected to (\S+)", line)
            assert match, line
            self.paths.append(match[1].decode())
        self.path = self.paths[0]

    def suspend(self) -> None:
        """Stop the board, which then answers nothing."""
        self._process.send_signal(19)  # SIGSTOP

    def wake(self) -> None:
        """Let a board go on that was stopped."""
        self._process.send_signal(18)  # SIGCONT

    def close(self) -> None:
        """Cut the power."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
