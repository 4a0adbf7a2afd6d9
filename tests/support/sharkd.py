"""Wireshark's daemon sharkd, with the generated dissector installed."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.support import tshark


class Sharkd:
    """A process that loads several captures, as Wireshark does.

    Args:
        home: Folder with the settings, where the dissector is installed.
    """

    def __init__(self, home: Path) -> None:
        plugins = home / ".local" / "lib" / "wireshark" / "plugins"
        plugins.mkdir(parents=True)
        shutil.copy(tshark.SCRIPT, plugins)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            ["sharkd", "-"],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            text=True,
            env=tshark.environment(home),
        )

    def ask(self, method: str, **parameters: object) -> str:
        """Return the answer to a request, as JSON text; empty if the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=20)
