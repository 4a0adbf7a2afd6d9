"""The console of the board under test: a PTY for its users, and a log of all output."""

import re
import subprocess
import sys
import time
from pathlib import Path

from patrolink.core.errors import DeviceError

from tests.hil.wire import BOARD, HOST, Wire

_MPREMOTE_S = 30.0
_TAIL_LINES = 12
_EXCERPT_START, _EXCERPT_END = 1000, 3000


class Console:
    """Connects the board's console to a PTY and a log.

    Args:
        folder: Folder of the log.
        port: Serial port of a real board's console; None for an emulated board, which opens `board_path` at each boot.

    Attributes:
        path: PTY for users of the console.
        log: File with all output.
        wire: Wire between the board's UART and the PTY.
        serial: The open serial port of a real board, or None.
        board_path: PTY that an emulated board opens, or None.
        origin: Offset in the log at which the output of the test begins.
    """

    def __init__(self, folder: Path, port: str | None) -> None:
        self.log = folder / "console.log"
        self.wire = Wire(self.log, BOARD)
        try:
            self.serial = self.wire.port(BOARD, port) if port else None
        except DeviceError:
            self.wire.close()
            raise
        self.board_path = None if port else self.wire.pty(BOARD)
        self.path = self.wire.pty(HOST, lossy=True)
        self.origin = self._boot_offset = 0

    def mark(self, origin: bool = False) -> None:
        """Start the output of a new boot at the end of the log; with `origin`, also the output of the test."""
        self._boot_offset = self.log.stat().st_size
        if origin:
            self.origin = self._boot_offset

    def console_text(self, since: int | None = None) -> str:
        """Return the output of this boot, or all output since an offset in the log."""
        return self.log.read_bytes()[self._boot_offset if since is None else since :].decode(errors="replace")

    def console_tail(self) -> str:
        """Return the last lines of this boot, for an error message."""
        return "\n".join("  " + line for line in self.console_text().splitlines()[-_TAIL_LINES:]) or "  (nothing)"

    def excerpt(self) -> str:
        """Return the start and the end of all output. Control characters are escaped."""
        text = self.console_text(0).replace("\r\n", "\n")
        omitted = len(text) - _EXCERPT_START - _EXCERPT_END
        if omitted > 0:
            text = f"{text[:_EXCERPT_START]}\n[... {omitted} characters ...]\n{text[-_EXCERPT_END:]}"
        return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)

    def find(self, pattern: str, timeout_s: float) -> str | None:
        """Wait for a pattern in the output of this boot. Returns the first match, or None after the timeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            match = re.search(pattern, self.console_text(), re.M)
            if match or time.monotonic() > deadline:
                return match[0] if match else None
            time.sleep(0.02)

    def mpremote(self, *words: str) -> str:
        """Run mpremote on this console and return its output.

        Raises:
            DeviceError: mpremote failed or did not end in time.
        """
        with self.wire.attach() as path:
            command = [sys.executable, "-m", "mpremote", "connect", path, *words]
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_MPREMOTE_S)
                error = (done.stderr or done.stdout).strip() if done.returncode else ""
            except subprocess.TimeoutExpired:
                error = f"no answer within {_MPREMOTE_S:g} s"
        if error:
            raise DeviceError(
                f"mpremote {' '.join(words[:2])}: {error.splitlines()[-1]}; check that this is the board's console and "
                f"that the board runs MicroPython. The console ends with:\n{self.console_tail()}"
            )
        return done.stdout
