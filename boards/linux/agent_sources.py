"""Copies the sources of the agent for CPython into a folder: for agent images and for the package of the platform.

usage: python boards/linux/agent_sources.py FOLDER [--platform]

--platform adds the programs that only the platform has. FOLDER must not exist. Exit code: 0, 2 if a source is missing.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = {  # source -> place of its modules
    "device/agent": "agent",
    "device/app": "app",
    "device/compat": "compat",
    "device/hal/posix": "hal/posix",
    "protocol/patrolink_protocol": "patrolink_protocol",
    "build/device-lib/umqtt": "umqtt",
}
FILES = {  # folder of the sources -> modules, with their place below that folder
    "device": ["hal/common", "hal/clip_storage"],
    "protocol/generated": ["patrolink_enums", "patrolink_messages"],
}
ONLY_FOR_BOARDS = {"app/serial_update.py"}
PLATFORM_FILES = {"device": ["boot_service", "slot_session"]}


def sources(root: Path = ROOT, platform: bool = False) -> dict[str, Path]:
    """Return the path of each module of a checkout by its place, sorted by place."""
    modules = {
        f"{place}/{path.relative_to(root / folder).as_posix()}": path
        for folder, place in FOLDERS.items()
        for path in (root / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    for listed in (FILES, PLATFORM_FILES) if platform else (FILES,):
        for folder, names in listed.items():
            modules.update((f"{name}.py", root / folder / f"{name}.py") for name in names)
    return {place: modules[place] for place in sorted(modules.keys() - ONLY_FOR_BOARDS)}


def main() -> int:
    """Copy the modules to the folder of the command line; return the exit code."""
    missing = [name for name in FOLDERS if not (ROOT / name).is_dir()]
    if missing:
        print(f"error: {', '.join(missing)} is missing; run: make device-lib", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    for place, path in sources(platform="--platform" in sys.argv[2:]).items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    # Without it, Python would look for a package in each folder of its path, and mix an image with the platform.
    for package in (path for path in folder.rglob("*") if path.is_dir()):
        (package / "__init__.py").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
