"""Emulated mps2_an385 boards without a configuration: MicroPython's REPL on a PTY."""

import re
import subprocess
from pathlib import Path

from patrolink.core import boards
from patrolink.emulator.boards import qemu

_HEAP_KB = 256


class ReplBoard:
    """A board; the constructor powers it on, with an empty file system.

    Attributes:
        path: PTY of its console.
        log: File with all output of the console.
    """

    def __init__(self, folder: Path, name: str, flash_kb: int = 2048) -> None:
        board = boards.find("mps2_an385")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "flash.bin").touch()
        self.log = folder / "console.log"
        straps = qemu.Straps(_HEAP_KB, flash_kb, name, 0, 1)
        console = ["-chardev", f"pty,id=u0,logfile={self.log},logappend=on", "-serial", "chardev:u0"]
        self._process = subprocess.Popen(
            [*qemu.command(board, qemu.build_image(board), folder, straps), *console],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        match = re.search(rb"redirected to (\S+)", line)
        assert match, line
        self.path = match[1].decode()

    def suspend(self) -> None:
        """Stop the board, which then answers nothing."""
        self._process.send_signal(19)  # SIGSTOP

    def close(self) -> None:
        """Cut the power."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
