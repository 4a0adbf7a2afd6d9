"""Copies the sources of the agent for a microcontroller into a folder: for frozen modules and for agent images.

usage: python boards/firmware_sources.py FOLDER

Modules that only processes use are left out, and generated constants are replaced by their numbers. FOLDER is removed
before. Exit code: 0, 2 if a source is missing, or that of protocol/inline_constants.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {  # source -> place of its modules
    "device/agent": "agent",
    "device/compat": "compat",
    "protocol/patrolink_protocol": "patrolink_protocol",
    "build/device-lib/umqtt": "umqtt",
}
FILES = {  # folder of the sources -> modules, with their place below that folder
    "device": [
        "boot",
        *(f"app/{name}" for name in ("start", "errors", "config", "device", "hello")),
        *(f"app/wiring_{name}" for name in ("network", "modem", "media", "commands", "camera", "recording")),
        *(f"app/wiring_{name}" for name in ("live_view", "upload", "update", "firmware", "slots", "no_slots")),
        "app/wiring_certification",
        *(f"app/{name}" for name in ("serial_update", "self_test", "console")),
        *("hal/common", "hal/clip_storage", "hal/baremetal/platform"),
        *("hal/baremetal/update_area", "hal/baremetal/block_flash", "hal/baremetal/file_system"),
    ],
    "protocol/generated": ["patrolink_messages"],
}
ONLY_FOR_PROCESSES = {"compat/netsock.py", "compat/tls.py", "compat/udp.py"}


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Return the path of each module of a checkout by its place, sorted by place."""
    modules = {
        f"{place}/{path.relative_to(root / folder).as_posix()}": path
        for folder, place in FOLDERS.items()
        for path in (root / folder).rglob("*.py")
        if not path.name.endswith("_cpython.py") and "__pycache__" not in path.parts
    }
    modules.update((f"{name}.py", root / folder / f"{name}.py") for folder, names in FILES.items() for name in names)
    return {place: modules[place] for place in sorted(modules.keys() - ONLY_FOR_PROCESSES)}


def main() -> int:
    """Copy the modules to the folder of the command line; return the exit code."""
    folder = Path(sys.argv[1])
    missing = [name for name in FOLDERS if not (ROOT / name).is_dir()]
    if missing:
        print(f"error: {', '.join(missing)} is missing; run: make device-lib", file=sys.stderr)
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    for place, path in sources().items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return subprocess.run([sys.executable, str(ROOT / "protocol" / "inline_constants.py"), str(folder)]).returncode


if __name__ == "__main__":
    sys.exit(main())
