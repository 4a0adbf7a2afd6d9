"""The console of a board that is tested: a PTY for whoever talks to it, and a log of all it has said."""

import re
import subprocess
import sys
import time
from pathlib import Path

from patrolink.core.errors import DeviceError

from tests.hil.wire import BOARD, HOST, Wire

_MPREMOTE_S = 30.0
_LAST_LINES = 12
_HEAD, _TAIL = 1000, 3000


class Console:
    """`path` is the PTY, `log` the file, `wire` what the board's UART is plugged into.

    port      the serial port of a real board's console; None: an emulated one opens `board_path` in each of its lives
    `origin`  where in the log the board under test begins to speak; `mark` forgets what was said before this life
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
        self.path = self.wire.pty(HOST, loose=True)
        self.origin = self._begin = 0

    def mark(self, origin: bool = False) -> None:
        """From here on is this life of the board; of the board under test, if this is its origin."""
        self._begin = self.log.stat().st_size
        if origin:
            self.origin = self._begin

    def console_text(self, since: int | None = None) -> str:
        """Return what the board has said in this life, or since an offset into the log."""
        return self.log.read_bytes()[self._begin if since is None else since :].decode(errors="replace")

    def console_tail(self) -> str:
        """Return its last words, for an error."""
        return "\n".join("  " + line for line in self.console_text().splitlines()[-_LAST_LINES:]) or "  (nothing)"

    def shown(self) -> str:
        """Return how all of it begins and ends, with nothing in it that a terminal would obey."""
        said = self.console_text(0).replace("\r\n", "\n")
        if len(said) > _HEAD + _TAIL:
            said = f"{said[:_HEAD]}\n[... {len(said) - _HEAD - _TAIL} characters ...]\n{said[-_TAIL:]}"
        return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in said)

    def find(self, pattern: str, timeout_s: float) -> str | None:
        """Return the first match in what this life says within so long, or None."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = re.search(pattern, self.console_text(), re.M)
            if found or time.monotonic() > deadline:
                return found[0] if found else None
            time.sleep(0.02)

    def mpremote(self, *words: str) -> str:
        """Return what mpremote prints on this console's board; DeviceError when the board does not do it."""
        with self.wire.attach() as path:
            command = [sys.executable, "-m", "mpremote", "connect", path, *words]
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_MPREMOTE_S)
                wrong = (done.stderr or done.stdout).strip() if done.returncode else ""
            except subprocess.TimeoutExpired:
                wrong = f"no answer within {_MPREMOTE_S:g} s"
        if wrong:
            raise DeviceError(
                f"mpremote {' '.join(words[:2])}: {wrong.splitlines()[-1]}; is this the board's console, and does it "
                f"run MicroPython? It says:\n{self.console_tail()}"
            )
        return done.stdout
