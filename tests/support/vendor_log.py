"""Tries docs/quickstart/vendor.md as a new vendor: python -m tests.support.vendor_log FILE.

Builds the wheel, installs it in a new virtual environment, and runs the commands of the section about the green report
in an empty folder that knows nothing of the checkout. Writes what they print, and the time of each, to the file.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.support import shown_commands
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "quickstart" / "vendor.md"
_BEGIN, _END = "## From an empty folder to a green report", "### Error"
_TIMEOUT_S = 1200
_HEADING = "The commands of docs/quickstart/vendor.md in an empty folder. `make vendor-log` writes this file."


class Entry(NamedTuple):
    """A command of the guide and what it did.

    Attributes:
        command: The command.
        output: What it printed.
        exit_code: Its exit code.
        seconds: The time that it took.
    """

    command: str
    output: str
    exit_code: int
    seconds: float


def commands() -> list[shown_commands.Command]:
    """Return the commands of the section."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index(_BEGIN) : text.index(_END)]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.md"
        page.write_text(section, encoding="utf-8")
        return shown_commands.read(page)


def run(command: str, folder: Path, environment: dict[str, str]) -> Entry:
    """Run a command in a folder."""
    begin_s = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT_S,
    )  # fmt: skip
    return Entry(command, done.stdout, done.returncode, time.monotonic() - begin_s)


def environment(home: Path, programs: Path) -> dict[str, str]:
    """Return the environment of a user with an empty home, and the tool in front of the path."""
    dropped = ("PATROLINK", "PYTHON", "VIRTUAL_ENV", "XDG")
    rest = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**rest, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "100"}


def try_guide(folder: Path, programs: Path) -> list[Entry]:
    """Run the commands of the guide in a new folder; end at the first that fails.

    Args:
        folder: Folder for the vendor's folder and home.
        programs: Folder of the program `patrolink`.
    """
    work, home = folder / "vendor", folder / "home"
    work.mkdir()
    home.mkdir()
    entries = []
    for command in commands():
        entries.append(run(command.text, work, environment(home, programs)))
        if entries[-1].exit_code not in command.exit_codes:
            break
    return entries


def render(entries: list[Entry]) -> str:
    """Return the log as text."""
    lines = [_HEADING, ""]
    for entry in entries:
        ending = f"[{entry.seconds:.1f} s, exit code {entry.exit_code}]"
        lines += [f"$ {entry.command}", *_shown(entry.output), ending, ""]
    total_s = sum(entry.seconds for entry in entries)
    return "\n".join([*lines, f"All commands together: {total_s:.0f} s.", ""])


def _shown(output: str) -> list[str]:
    """Return the output without lines of progress."""
    return [line for line in output.splitlines() if not re.match(r"validate: \d+ %", line)]


def _install(folder: Path) -> Entry:
    """Build and install the wheel; return the entry of the installation."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    wheel = next(folder.glob("*.whl"))
    script = f"python3 -m venv venv && venv/bin/python -m pip install -q {wheel} >pip.log 2>&1"
    entry = run(script, folder, dict(os.environ))
    return entry._replace(command="python3 -m venv .venv && . .venv/bin/activate && pip install patrolink")


def main(log: Path) -> int:
    """Write the log; return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entries = [_install(folder), *try_guide(folder, folder / "venv" / "bin")]
    log.write_text(render(entries), encoding="utf-8")
    return int(any(entry.exit_code for entry in entries))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
