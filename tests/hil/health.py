"""Checks of a board after every test."""

import json
import os
import re
from pathlib import Path

READY = "device: ready"
# A complete line: the prefix of a summary that is still being written may also end in "}".
SUMMARY = r"^\{.*\}\r*\n"
# An exception in a command of mpremote at the REPL is not a crash of the agent.
_CRASHES = {"Traceback": r'Traceback \(most recent call last\):\s+File "(?!<stdin>")', "FAULT": "FAULT"}
_UNPLANNED = r"after (?:reset|watchdog|soft reset|fault|\?)\s*$"


def problems(text: str, boots: int) -> list[str]:
    """Return the problems of a board, one line each.

    Args:
        text: Output of its console during the test.
        boots: Number of boots that the test has caused.
    """
    lines = [f"{word} on the console" for word, pattern in _CRASHES.items() if re.search(pattern, text)]
    ready_count = text.count(READY)
    causes = re.findall(_UNPLANNED, text, re.M)
    if ready_count != boots or causes:
        lines.append(f"unplanned resets: {ready_count} boots, expected {boots} {' '.join(causes)}".rstrip())
    for summary in re.findall(SUMMARY, text, re.M):
        counts = json.loads(summary).get("board") or {}
        if counts.get("overruns"):
            lines.append(f"{counts['overruns']} bytes lost on UARTs")
        if counts.get("violations"):
            lines.append(f"{counts['violations']} violations of NOR flash rules")
    return lines


def leftover_processes(folder: Path) -> list[str]:
    """Return a line for each process that works in this folder or has a path in it on its command line."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if str(folder) in command or (process / "cwd").resolve().is_relative_to(folder):
                lines.append(f"process {process.name} still runs: {command}")
        except OSError:
            continue  # the process has just ended or belongs to another user
    return lines
