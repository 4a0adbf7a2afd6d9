"""Records what commands print on a terminal: as an asciinema file (version 2), and as a picture of the session."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

from rich import _export_format
from rich.console import Console
from rich.text import Text

_IDLE_MAX_S = 2.0
_LOOK_S = 0.2
_FRAME_S = 0.25
_TYPED_S = 0.03  # between two characters
_CONTROL = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|\r|\n")


class Recording:
    """A session on a terminal.

    Args:
        columns: Width of the terminal.
        rows: Height of the terminal.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._events: list[tuple[float, str]] = []
        self._time_s = 0.0

    def run(self, shown: str, command: list[str], folder: Path, kill_when: Callable[[], bool] | None = None) -> int:
        """Run a command, and kill it when a condition holds.

        Args:
            shown: What the operator types.
            command: Program and arguments.
            folder: Working folder.
            kill_when: Condition; None: the command ends alone.

        Returns:
            Its exit code; negative: the signal that ended it.
        """
        self.type(shown)
        child, master = pty.fork()
        if not child:
            os.chdir(folder)
            os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color", "COLORTERM": ""})  # noqa: S606
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", self._rows, self._columns, 0, 0))
        self._read(master, child, kill_when)
        os.close(master)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code < 0:
            self._add(0.1, "\x1b[?25h\r\nKilled\r\n")
        return code

    def type(self, text: str) -> None:
        """Add a line that the operator types."""
        self._add(0.5, "$ ")
        for character in text:
            self._add(_TYPED_S, character)
        self._add(0.3, "\r\n")

    def comment(self, text: str) -> None:
        """Add a comment that the operator types."""
        self._add(1.0, f"\x1b[32m# {text}\x1b[0m\r\n")

    def save(self, path: Path) -> None:
        """Write the asciinema file."""
        lines = [json.dumps({"version": 2, "width": self._columns, "height": self._rows})]
        shown, drawn, due_s = Screen(), [""] * self._rows, 0.0
        for at_s, text in [*self._events, (self._time_s + _FRAME_S, "")]:
            if at_s >= due_s:  # only rows that have changed: a live table is drawn again eight times a second
                visible = [*shown.lines[-self._rows :], *[""] * self._rows][: self._rows]
                changes = "".join(
                    f"\x1b[{row};1H\x1b[2K{new}\x1b[0m"
                    for row, (old, new) in enumerate(zip(drawn, visible, strict=True), 1)
                    if old != new
                )
                lines += [json.dumps([round(at_s, 2), "o", changes])] if changes else []
                drawn, due_s = visible, at_s + _FRAME_S
            shown.feed(text)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def picture(self, title: str) -> str:
        """Return the session as SVG, as a terminal that is high enough shows it at the end."""
        console = Console(record=True, width=self._columns, file=io.StringIO(), force_terminal=True)
        shown = Screen()
        for _, text in self._events:
            shown.feed(text)
        for line in shown.lines:
            console.print(Text.from_ansi(line), overflow="crop", no_wrap=True)
        # Without fonts from the network.
        form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", _export_format.CONSOLE_SVG_FORMAT, flags=re.S)
        return console.export_svg(title=title, code_format=form, unique_id="session")

    def _read(self, master: int, child: int, kill_when: Callable[[], bool] | None) -> None:
        last, start_s = "", time.monotonic()
        while True:
            if select.select([master], [], [], _LOOK_S)[0]:
                try:
                    text = os.read(master, 65536).decode(errors="replace")
                except OSError:  # the other side is closed
                    return
                if text != last:  # a live table is drawn again although nothing has changed
                    self._add(time.monotonic() - start_s, text)
                    start_s = time.monotonic()
                last = text
            if kill_when is not None and kill_when():
                os.kill(child, signal.SIGKILL)
                kill_when = None

    def _add(self, after_s: float, text: str) -> None:
        self._time_s += min(after_s, _IDLE_MAX_S)
        self._events.append((self._time_s, text))


class Screen:
    """A terminal without a lower end. Only what rich uses is known: cursor up, erase line, styles, return, line feed.

    Attributes:
        lines: Its lines; styles are escape sequences in them.
    """

    def __init__(self) -> None:
        self.lines = [""]
        self._row, self._fresh = 0, True
        self._rest = ""

    def feed(self, text: str) -> None:
        """Process output of a program."""
        text, self._rest, at = self._rest + text, "", 0
        for match in _CONTROL.finditer(text):
            self._put(text[at : match.start()])
            at = match.end()
            self._control(match)
        tail = text[at:]
        escape = tail.rfind("\x1b")
        if escape >= 0:  # a sequence that is not complete yet
            tail, self._rest = tail[:escape], tail[escape:]
        self._put(tail)

    def _put(self, text: str) -> None:
        if text:
            self.lines[self._row] = text if self._fresh else self.lines[self._row] + text
            self._fresh = False

    def _control(self, match: "re.Match[str]") -> None:
        if match[0] == "\r":
            self._fresh = True
        elif match[0] == "\n":
            self._row += 1
            self.lines += [""] * (self._row == len(self.lines))
            self._fresh = True
        elif match[3] == "A":
            self._row = max(0, self._row - int(match[2] or 1))
        elif match[3] == "K":
            self.lines[self._row] = ""
        elif match[3] == "m":
            self._put(match[0])
