"""What has to be true of a board after every test, whatever the test was about."""

import json
import os
import re
from pathlib import Path

READY = "device: ready"
# A complete line: a prefix of a summary that is still being written may end in "}", too.
SUMMARY = r"^\{.*\}\r*\n"
# What mpremote tries at the REPL and fails at is no crash.
_CRASHES = {"Traceback": r'Traceback \(most recent call last\):\s+File "(?!<stdin>")', "FAULT": "FAULT"}
_UNPLANNED = r"after (?:reset|watchdog|soft reset|fault|\?)\s*$"


def problems(said: str, boots: int) -> list[str]:
    """Return what was wrong with a board that has said this in so many planned lives."""
    wrong = [f"{word} on the console" for word, pattern in _CRASHES.items() if re.search(pattern, said)]
    lives = said.count(READY)
    causes = re.findall(_UNPLANNED, said, re.M)
    if lives != boots or causes:
        wrong.append(f"resets that nobody planned: {lives} lives of {boots} {' '.join(causes)}".rstrip())
    for line in re.findall(SUMMARY, said, re.M):
        counts = json.loads(line).get("board") or {}
        for name in ("overruns", "violations"):
            if counts.get(name):
                wrong.append(
                    f"{counts[name]} {name}: {'bytes lost on UARTs' if name == 'overruns' else 'of NOR flash'}"
                )
    return wrong


def left_behind(folder: Path) -> list[str]:
    """Return a line for each process that works in this folder or was started with a path in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if str(folder) in command or (process / "cwd").resolve().is_relative_to(folder):
                found.append(f"process {process.name} is left behind: {command}")
        except OSError:
            continue  # it has just ended, or is somebody else's
    return found
