"""Deploys the agent's sources for a runtime: as they are for CPython, with inlined constants for MicroPython.

MicroPython keeps every global of a module on its heap. The copy that it runs has numbers in place of generated
constants, as the firmware has (`protocol/inline_constants.py`).
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from patrolink.core import resources
from patrolink.core.errors import UserError

# Folders and files that a process of the agent imports from, relative to the checkout.
_INPUTS = ("device", "protocol/patrolink_protocol", "protocol/generated/patrolink_messages.py", "build/device-lib")
_TOOL = "protocol/inline_constants.py"


def agent_main(runtime: str) -> Path:
    """Return the path of the agent's `device/main.py` for a runtime, "cpython" or "micropython".

    Raises:
        UserError: the sources cannot be deployed; the message says why.
    """
    root = resources.root()
    return (root if runtime == "cpython" else _deployed(root)) / "device" / "main.py"


@functools.cache
def _deployed(root: Path) -> Path:
    """Return the folder of the copy for MicroPython; created once for each state of the sources."""
    files = [path for name in _INPUTS for path in _files(root / name)]
    digest = hashlib.sha256((root / _TOOL).read_bytes())
    for path in files:
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    target = resources.build_folder() / "agent" / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="new-") as folder:
        copy = Path(folder) / "copy"
        for path in files:
            place = copy / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        done = subprocess.run([sys.executable, str(root / _TOOL), str(copy)], capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"the agent cannot be deployed for MicroPython:\n{done.stderr}")
        try:
            os.rename(copy, target)
        except OSError:  # another process has deployed the same sources meanwhile
            if not target.is_dir():
                raise
    return target


def _files(path: Path) -> list[Path]:
    """Return the source files at or below a path, sorted."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [file for file in files if "__pycache__" not in file.parts]
